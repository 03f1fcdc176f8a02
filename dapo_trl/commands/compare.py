"""
Compare two evaluations, problem by problem: the difference with its 95% interval.

```bash
dapo-trl compare before/summary.json after/summary.json
```
"""

from . import evaluate
from .recipe_parser import StrictParser


def main(argv: list[str] | None = None) -> None:
    """Parse, compare, print."""
    parser = StrictParser(prog="dapo-trl compare", description=__doc__.strip().splitlines()[0])
    parser.add_argument("summaries", nargs=2, metavar="SUMMARY.json", help="what `dapo-trl evaluate` has written")
    evaluate.main(["--compare", *parser.parse(argv).summaries])
