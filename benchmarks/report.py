"""
Makes `benchmarks/README.md` from the JSON files in `benchmarks/results`.

    python -m benchmarks.report
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, cell


HEAD = """\
<!-- Made by `python -m benchmarks.report` from results/*.json. -->

# Measurements

`make bench` measures and makes this page; `make bench BENCH="training_phase.speed rewards.speed"` measures some of it.
Each row can also be measured with its command, alone or with its series; rows that were not measured anew stay. Both
sides of a ratio are measured in one run. Seconds of different rows need not be from the same day.
"""
VERSIONS = {"dapo_trl": "dapo_trl", "trl": "TRL", "transformers": "Transformers", "torch": "PyTorch"}


def table(content: dict[str, Any]) -> str:
    """The rows of one file in Markdown, each with its command and what it was measured with."""
    formats = content["formats"]
    lines = [
        [*formats, "command", "measured with"],
        ["---" if spec == "" else "--:" for spec in formats.values()] + ["---", "---"],
    ]
    for row in content["rows"]:
        cells = [cell(row[name], spec) for name, spec in formats.items()]
        lines.append([*cells, f"`{row['command']}`", measured_with(row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured_with(row: dict[str, Any]) -> str:
    """Versions and machine."""
    versions = [f"{label} {row['versions'][name]}" for name, label in VERSIONS.items()]
    machine = row["machine"]
    return ", ".join([*versions, machine["processor"], f"{machine['cores']} cores", f"{machine['threads']} thread(s)"])


def page(results: Path) -> str:
    """The whole page."""
    sections = [HEAD]
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        sections.append(f"{content['about'].strip()}\n\n{table(content)}\n")
    return "\n".join(sections)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("README.md"))
    arguments = parser.parse_args()
    arguments.output.write_text(page(arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
