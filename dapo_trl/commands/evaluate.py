"""
Evaluate a model: k samples per problem, avg@k, maj@k and pass@j with 95% intervals.

```bash
dapo-trl evaluate --model outputs/my-run --data aime24 --k 32
dapo-trl evaluate --model my-model --data math500 --server_url http://localhost:8000/v1
```

Defaults are the paper's: k = 32, temperature 1.0, top_p 0.7, at most 20,480 tokens. Completions are written as they
come; the same command continues a stopped evaluation. Settings may also stand in a YAML file (`--config`).
"""

import logging
import sys

from ..evaluation.config import EvaluateConfig
from ..run.secret_values import mask_logs
from .recipe_parser import RecipeParser


INTERRUPTED = 130
"""Exit status after Ctrl-C, by the shell's convention."""


def main(argv: list[str] | None = None) -> None:
    """Parse, evaluate, print."""
    (config,) = RecipeParser(EvaluateConfig, prog="dapo-trl evaluate").parse(argv)
    from transformers.utils.logging import disable_progress_bar  # late: --help and mistakes in settings need no model

    from ..evaluation.run import evaluate, output_dir
    from ..evaluation.summary import describe_summary

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mask_logs()
    for noisy in ("httpx", "datasets"):  # one line per request
        logging.getLogger(noisy).setLevel(logging.WARNING)
    disable_progress_bar()
    try:
        summary, path = evaluate(config)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nStopped. What is done is in {output_dir(config)}; the same command continues.\n")
        sys.exit(INTERRUPTED)
    completions = path.with_name(summary["completions_file"])
    sys.stdout.write(f"{describe_summary(summary)}\n\nSummary: {path}\nCompletions: {completions}\n")
