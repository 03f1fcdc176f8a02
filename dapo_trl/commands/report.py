"""
Make one page about a run, or about several that are compared.

```bash
dapo-trl report outputs/dapo
dapo-trl report outputs/dapo-seed0 outputs/dapo-seed1 outputs/grpo-seed0 --output_dir outputs/report
```

Directories named as seeds of one run (`dapo-seed0`, `dapo-seed1`) become one curve with a band. The page needs no
network and no server; every chart is also written as a PNG. A run that is under way can be looked at, too.
"""

import logging
import os
import sys
from pathlib import Path

from .recipe_parser import StrictParser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, write."""
    assert __doc__ is not None
    parser = StrictParser(prog="dapo-trl report", description=__doc__.strip().splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="run_dir", help="output_dir of a run")
    parser.add_argument("--output_dir", type=Path, help="default: `report` in the run, or beside several runs")
    parser.add_argument("--title", help="heading of the page; default: the names of the runs")
    parser.add_argument(
        "--evaluations",
        nargs="+",
        type=Path,
        default=[],
        metavar="SUMMARY.json",
        help="further results of dapo-trl evaluate, such as of the model before training; those of the runs are found",
    )
    args = parser.parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        from ..reporting.page import write_report
        from ..reporting.runs import load_runs
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        sys.exit("The report needs matplotlib: pip install 'dapo_trl[report]'.")
    groups = load_runs(args.runs)
    output_dir = args.output_dir or default_output_dir(args.runs)
    page = write_report(groups, output_dir, args.title or ", ".join(groups), args.evaluations)
    sys.stdout.write(f"Report: {page}\n")


def default_output_dir(runs: list[Path]) -> Path:
    """`report` in a single run's directory, else in the directory that holds all runs."""
    if len(runs) == 1:
        return runs[0] / "report"
    return Path(os.path.commonpath([run.resolve().parent for run in runs]), "report")
