"""
`python -m demo.easy_gsm8k INPUT OUTPUT`: the short problems of a GSM8K file that one or two calculations solve.

A model of 135 M parameters gets almost none of the others right, and a group without a right completion is not
trained on.
"""

import argparse
import json
from pathlib import Path


def is_easy(row: dict[str, str], max_calculations: int = 2, max_chars: int = 150) -> bool:
    """Whether the worked answer marks few calculations (`<<48/2=24>>`) and the question is short."""
    return 1 <= row["answer"].count("<<") <= max_calculations and len(row["question"]) <= max_chars


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.easy_gsm8k", description="Keep short, easy GSM8K problems.")
    parser.add_argument("input", type=Path, help="JSON lines with `question` and `answer`")
    parser.add_argument("output", type=Path, help="JSON lines of the same form")
    args = parser.parse_args()
    lines = args.input.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if is_easy(json.loads(line))]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    print(f"Kept {len(kept)} of {len(lines)} problems: {args.output}")


if __name__ == "__main__":
    main()
