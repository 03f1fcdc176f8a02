"""
Write the model card of a run again, with its evaluations, and push it.

```bash
dapo-trl model-card --run outputs/my-run
dapo-trl model-card --run outputs/my-run --evaluation outputs/my-run/evaluation/summary-aime24.json --push
```
"""

import logging
import sys
from pathlib import Path

from .recipe_parser import StrictParser


def push_run(run_dir: Path, repo_id: str | None, private: bool) -> str:
    """Pushes the final model of a run with its card, and returns the commit's address; a [`PushError`] if refused."""
    from huggingface_hub import HfApi  # late, because these take seconds, which --help and mistakes need not wait for

    from ..hub.card import weight_files
    from ..hub.facts import FactsError, read_facts
    from ..hub.publishing import Publisher, Push

    if not weight_files(run_dir):
        raise FactsError(
            f"{run_dir} holds no final model: the run has not come to its end, or has trained nothing. Resume it, or "
            "push a checkpoint by `hf upload <owner>/<name> <checkpoint>`."
        )
    repo_id = repo_id or read_facts(run_dir)["repo_id"]
    if repo_id is None:
        raise FactsError(f"{run_dir} was not trained with push_to_hub. Give --repo_id <owner>/<name>.")
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
    return Publisher(api, repo_id, run_dir).finish(Push("the final model", run_dir, "Model card")).commit_url


def main(argv: list[str] | None = None) -> None:
    """Parse, write, push if asked."""
    parser = StrictParser(prog="dapo-trl model-card", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="output_dir of the run")
    evaluation_help = "summaries of dapo-trl evaluate; by default those in <run>/evaluation"
    parser.add_argument("--evaluation", nargs="+", default=[], metavar="SUMMARY", help=evaluation_help)
    parser.add_argument("--push", action="store_true", help="push the model and its card")
    parser.add_argument("--repo_id", help="where to; by default where the run pushed")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    args = parser.parse(argv)
    from ..hub.card import write_card

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(f"Model card: {write_card(args.run, args.evaluation)}\n")
    if args.push:
        sys.stdout.write(f"Pushed: {push_run(args.run, args.repo_id, args.private)}\n")
