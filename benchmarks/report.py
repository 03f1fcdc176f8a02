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

`make bench` measures everything here anew and makes this page; `make bench BENCH="training_phase.speed rewards.speed"`
measures some of it. Each row can be measured alone with its command. Both sides of a ratio are measured in one run, in
turns; seconds of different rows need not be from the same day or machine.
"""
VERSIONS = {"dapo_trl": "dapo_trl", "trl": "TRL", "transformers": "Transformers", "torch": "PyTorch"}


def table(content: dict[str, Any]) -> str:
    """The rows of one file in Markdown, each with its command and versions."""
    versions = ", ".join(f"{label} {content['versions'][name]}" for name, label in VERSIONS.items())
    lines = [
        [*content["formats"], "command", "versions"],
        ["---" if spec == "" else "--:" for spec in content["formats"].values()] + ["---", "---"],
    ]
    for row in content["rows"]:
        cells = [cell(row[name], spec) for name, spec in content["formats"].items()]
        lines.append([*cells, f"`{row['command']}`", versions])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(results: Path) -> str:
    """The whole page."""
    sections = [HEAD]
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        machine = content["machine"]
        where = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s) of PyTorch."
        sections.append(f"{content['about'].strip()}\n\nMeasured on: {where}\n\n{table(content)}\n")
    return "\n".join(sections)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("README.md"))
    arguments = parser.parse_args()
    arguments.output.write_text(page(arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
