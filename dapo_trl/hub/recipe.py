"""`recipe.yaml`: the settings of a run beside its model, without secrets."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..run.secret_values import is_secret_name, mask_text, mask_values, mask_words, remember


RECIPE_FILE = "recipe.yaml"

# `name: value`, `NAME=value`, `--name value`, in comments, too.
_NAMED_VALUE = re.compile(r"--([A-Za-z][\w-]*)|([A-Za-z][\w.-]*)[\"']?\s*[:=]\s*\S")
# Tokens of the Hub, OpenAI and GitHub, known by their form.
_TOKEN = re.compile(r"\b(?:hf_|sk-|gh[opsu]_|github_pat_)[A-Za-z0-9_-]{16,}")


def save_recipe(argv: Sequence[str], output_dir: str) -> None:
    """Writes `recipe.yaml`: the command line in a comment, and below it the file of `--config` without secrets."""
    argv, text = list(argv), ""
    if "--config" in argv:
        position = argv.index("--config")
        text = Path(argv[position + 1]).read_bytes().decode("utf-8-sig")  # with the line ends it has
        argv[position + 1] = RECIPE_FILE
    recipe = without_secrets(text)
    command = f"# accelerate launch -m dapo_trl.train {shlex.join(mask_words(argv))}\n"
    target = Path(output_dir, RECIPE_FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((command + recipe).encode())


def without_secrets(text: str) -> str:
    """
    A YAML file without secrets: as it is if nothing in it looks like one, else its settings without comments.

    >>> without_secrets("seed: 1  # as in the paper")
    'seed: 1  # as in the paper'
    """
    settings = yaml.safe_load(text) or {}
    remember(settings)
    # A text may be a dictionary in JSON.
    texts_masked = {
        name: mask_words([value])[0] if isinstance(value, str) else value for name, value in settings.items()
    }
    masked = mask_values(texts_masked)
    names = [name for match in _NAMED_VALUE.finditer(text) for name in match.groups() if name]
    if (
        masked == settings
        and mask_text(text) == text
        and not _TOKEN.search(text)
        and not any(map(is_secret_name, names))
    ):
        return text
    values = yaml.safe_dump(masked, sort_keys=False, allow_unicode=True)
    return mask_text(f"# Without the comments of the file, which may hold a secret.\n{values}")
