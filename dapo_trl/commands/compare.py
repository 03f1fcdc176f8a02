"""
Compare two evaluations, problem by problem: the difference with its 95% interval.

```bash
dapo-trl compare before/summary.json after/summary.json
```
"""

import logging
import sys

from ..evaluation.compare import compare, describe_comparison
from ..evaluation.summary import read_summary
from .recipe_parser import StrictParser


def main(argv: list[str] | None = None) -> None:
    """Parse, compare, print."""
    assert __doc__ is not None
    parser = StrictParser(prog="dapo-trl compare", description=__doc__.strip().splitlines()[0])
    parser.add_argument("summaries", nargs=2, metavar="SUMMARY.json", help="what `dapo-trl evaluate` has written")
    first, second = map(read_summary, parser.parse(argv).summaries)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(describe_comparison(compare(first, second), first, second) + "\n")
