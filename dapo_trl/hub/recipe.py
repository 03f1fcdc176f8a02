"""The recipe of a run beside its model, as it was given."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..run_settings import NOT_PUBLISHED, SECRET_NAME
from .files import RECIPE_FILE


# A key of YAML, also of `env` and commented out, or a flag of the command line.
_SECRET = re.compile(
    rf"""((?:^\s*\#?\s*|[{{,]\s*|--)["']?{SECRET_NAME}["']?(?::\s*|=|\ ))([^\s,}}]+)""",
    re.IGNORECASE | re.MULTILINE,
)


def save_recipe(argv: Sequence[str], output_dir: str) -> None:
    """
    Writes `recipe.yaml`: the YAML file with its comments, and above it the command line. Secrets are left out.

    Args:
        argv (`Sequence[str]`): arguments of the command; `--config` names the YAML file.
        output_dir (`str`): the run's output directory.
    """
    argv, text = list(argv), ""
    if "--config" in argv:
        position = argv.index("--config")
        path = Path(argv[position + 1])
        text = path.read_text(encoding="utf-8")
        argv[position + 1] = RECIPE_FILE
    command = f"# accelerate launch -m dapo_trl.train {shlex.join(argv)}\n"
    target = Path(output_dir, RECIPE_FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(without_secrets(command + text), encoding="utf-8")


def without_secrets(text: str) -> str:
    """
    >>> without_secrets("hub_token: hf_abc  # mine")
    'hub_token: not-published  # mine'
    """
    return _SECRET.sub(rf"\1{NOT_PUBLISHED}", text)
