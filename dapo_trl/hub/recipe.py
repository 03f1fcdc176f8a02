"""The recipe of a run beside its model, as it was given but for secrets."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..run.secret_values import NOT_PUBLISHED, is_secret_name, mask_text, mask_words
from .files import RECIPE_FILE


# What a comment gives to a name: `hub_token: x` where it begins, `HF_TOKEN=x` and `--hub_token x` anywhere. The value
# may be quoted, or stand in the lines below (`|`).
_IN_COMMENT = re.compile(
    r"""(?P<before>(?:(?P<start>[#{,])[-\s]*(?:export\s+)?|(?P<flag>--)|\b)["']?)(?P<name>[A-Za-z][\w.-]*)["']?"""
    r"""(?P<sign>(?:\s*=\s*|(?(start)\s*:\s+|(?(flag)\s+|(?!)))))"""
    r"""(?P<value>"[^"\n]*"|'[^'\n]*'|[|>][-+\d]*\s*\n\s*\#\s*\S+|[^\s,}"']+)"""
)
# Of the Hub, OpenAI, GitHub: known by their form, whatever is said before them.
_TOKEN = re.compile(r"\b(?:hf_|sk-|gh[opsu]_|github_pat_)[A-Za-z0-9_-]{16,}")


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
        text = path.read_bytes().decode("utf-8-sig")  # with the line ends it has
        argv[position + 1] = RECIPE_FILE
    command = f"# accelerate launch -m dapo_trl.train {shlex.join(mask_words(argv))}\n"
    target = Path(output_dir, RECIPE_FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((command + without_secrets(text)).encode())


def without_secrets(text: str) -> str:
    """
    A YAML file without secrets: its values are those that YAML reads, however they are written.

    >>> without_secrets("hub_token : 'hf_abc'  # mine")
    'hub_token : not-published  # mine'
    """
    masked, end = [], 0
    for start, stop, value in _pieces(text):
        masked += [_without_secrets_in_comments(text[end:start]), text[start:stop] if value is None else value]
        end = stop
    return "".join([*masked, _without_secrets_in_comments(text[end:])])


def _pieces(text: str) -> list[tuple[int, int, str | None]]:
    """Start and end of every token of YAML, and what to write in its place if it holds a secret."""
    tokens = [token for token in yaml.scan(text) if token.end_mark.index > token.start_mark.index]
    edits: dict[int, str] = {}
    _find_edits(yaml.compose(text), False, edits)
    pieces = []
    for token in tokens:
        start, stop = token.start_mark.index, token.end_mark.index
        if not isinstance(token, yaml.ScalarToken) or stop not in edits:
            if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
                start = min(text.find("\n", start) % (stop + 1), stop)  # a comment may stand behind the sign
            pieces.append((start, stop, None))
            continue
        is_block = token.style in ("|", ">")
        pieces.append((start, stop, _scalar(edits[stop]) + ("\n" if is_block and stop < len(text) else "")))
    return pieces


def _find_edits(node: yaml.Node | None, is_secret: bool, edits: dict[int, str]) -> None:
    """By the end of its scalar, every value that holds a secret; one with an alias is as secret as its aliases."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            _find_edits(value, is_secret or is_secret_name(str(name.value)), edits)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _find_edits(item, is_secret, edits)
    elif isinstance(node, yaml.ScalarNode) and node.value:
        says_nothing = node.tag.endswith((":null", ":bool"))
        masked = NOT_PUBLISHED if is_secret and not says_nothing else mask_words([node.value])[0]  # it may be JSON
        if masked != node.value:
            edits.setdefault(node.end_mark.index, masked)
            if masked == NOT_PUBLISHED:
                edits[node.end_mark.index] = masked


def _scalar(value: str) -> str:
    return value if value == NOT_PUBLISHED else json.dumps(value, ensure_ascii=False)


def _without_secrets_in_comments(text: str) -> str:
    def masked(match: re.Match) -> str:
        if not is_secret_name(match["name"]):
            return match[0]
        return match[0][: match.start("value") - match.start()] + NOT_PUBLISHED

    return _TOKEN.sub(NOT_PUBLISHED, _IN_COMMENT.sub(masked, mask_text(text)))
