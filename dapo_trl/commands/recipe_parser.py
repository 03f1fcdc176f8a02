"""The parsers of commands, strict ones; also of those whose settings may stand in a YAML file."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from ..run.secret_values import mask_text, remember


HELP = (["--help"], ["-h"])  # command lines that ask for the short help. `--help all` lists every field

# Fields that the short help of each command shows. `vllm-command` has those of `train`.
FIRST = {
    "train": ("model_name_or_path", "dataset_name", "prompt_template", "reward_funcs", "eval_dataset_name"),
    "evaluate": ("model", "data", "k", "output_dir", "max_completion_length", "backend"),
    "prepare-data": ("source", "output", "prompt_template", "tokenizer", "max_prompt_tokens", "check"),
}

_MERGE = "tag:yaml.org,2002:merge"

# Likeness (`difflib`) from which on another name is suggested: misspelt names, not other names with equal words.
CUTOFF = 0.75


class _Help(argparse.Action):
    """Prints the help, all of it after `all`, and ends the program."""

    def __call__(self, parser, namespace, values, option_string=None):
        is_short = isinstance(parser, StrictParser) and parser.first and values != "all"
        sys.stdout.write(parser.format_short_help() if is_short else parser.format_help())
        parser.exit()


class CommandParser(argparse.ArgumentParser):
    """A parser whose every mistake is a `ValueError`, without the usage of all flags."""

    def error(self, message: str) -> NoReturn:
        """As argparse's, but raises `ValueError`, without the usage of all flags."""
        raise ValueError(mask_text(f"{message}. See {self.prog} --help."))


class StrictParser(CommandParser):
    """
    A parser that refuses unknown and abbreviated flags and names the likely one.

    An abbreviation that argparse would take for one flag today may mean another one tomorrow.

    `--help` shows the fields in [`FIRST`], if the command has many, and `--help all` shows every one.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"allow_abbrev": False, "add_help": False} | kwargs)
        command = self.prog.split()[-1].removeprefix("dapo_trl.").replace("vllm-command", "train")
        self.first = FIRST.get(command, ())
        value: dict[str, Any] = {"nargs": "?", "choices": ["all"]} if self.first else {"nargs": 0}
        self.add_argument("-h", "--help", action=_Help, default=argparse.SUPPRESS, help="show the help", **value)

    def format_short_help(self) -> str:
        """The help on the fields that one needs first."""
        # The last action of a name is the `--no_` of a flag.
        actions = {action.dest: action for action in reversed(self._actions)}
        width = max(map(len, self.first)) + 2
        fields = []
        for name in self.first:
            default = actions[name].default
            text = f"{f'--{name}':{width}}  {actions[name].help}"
            text += "" if default in (None, False) else f" Default: {default}."
            fields.append(textwrap.fill(text, 100, subsequent_indent=" " * (width + 2)))
        usage = f"usage: {self.prog} [--config FILE.yaml] [--field VALUE ...]"
        about = [self.description, "\n".join(fields), self.epilog, "`--help all` describes every field."]
        return "\n\n".join([usage, *filter(None, about)]) + "\n"

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but unknown words raise `ValueError`."""
        words = sys.argv[1:] if args is None else list(args)
        # Before the parent says which of the required flags are missing: they may be there, but misspelt.
        self.refuse_unknown_flags(words)
        known, unknown = super().parse_known_args(words, namespace)
        remember(vars(known))
        self._refuse(map(_name, unknown), self.flags)  # words that belong to no flag
        return known, unknown

    def parse(self, words: Sequence[str] | None = None) -> Any:
        """The words of a user, as a namespace."""
        return self.parse_args(words)

    @property
    def flags(self) -> list[str]:
        """Names of all flags, without dashes before them and with underscores in them."""
        return list(dict.fromkeys(_name(flag) for flag in self._option_string_actions))

    def refuse_unknown_flags(self, words: Sequence[str], others: Iterable[str] = ()) -> None:
        """
        Refuses flags of a command line that are neither this parser's nor `others`, and names those that may be meant.
        """
        known = {*self._option_string_actions, *others}
        flags = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
        unknown = [_name(flag) for flag in flags if flag not in known and " " not in flag]  # with a space: a value
        self._refuse(unknown, [*self.flags, *map(_name, others)])

    def _refuse(self, unknown: Iterable[str], known: Sequence[str]) -> None:
        messages = [self._describe(name, known) for name in unknown]
        if messages:
            raise ValueError(mask_text(" ".join(messages)))

    def _describe(self, name: str, known: Sequence[str]) -> str:
        underscored = name.replace("-", "_")
        longer = sorted((other for other in known if underscored and other.startswith(underscored)), key=len)
        similar = [*longer, *difflib.get_close_matches(underscored, known, n=1, cutoff=CUTOFF)]
        listing = "--help all" if self.first else "--help"
        advice = f"did you mean `{similar[0]}`?" if similar else f"{listing} lists the known ones."
        return f"unknown key `{name}`; {advice}"


class RecipeParser(StrictParser, TrlParser):
    """
    A [`~trl.TrlParser`] that is strict on the command line and in the file.

    The file is checked before anything is made of its values: a misspelt key often makes another setting impossible.
    """

    def parse(self, words: Sequence[str] | None = None) -> tuple:
        """The words of a user, and the file, as data classes."""
        return self.parse_args_and_config(words)

    def parse_args_and_config(self, args=None, *other, **options):
        """As TRL's, but keys that are given twice raise `ValueError`."""
        words = sys.argv[1:] if args is None else list(args)
        if words.count("--config") > 1:
            raise ValueError("--config is given more than once. Give one file, and other values by their flags.")
        if "--config" in words:
            position = words.index("--config") + 1
            if position == len(words):
                raise ValueError("--config is the last word. Give the file after it: --config RECIPE.yaml.")
            text = Path(words[position]).read_text(encoding="utf-8")
            refuse_repeated_keys(text, words[position])
            remember(yaml.safe_load(text))  # also what the command line overrides: it may stand elsewhere in the file
        return super().parse_args_and_config(words, *other, **options)

    def set_defaults_with_config(self, **kwargs) -> list[str]:
        """As TRL's, but unknown keys of the file raise `ValueError`."""
        remaining = super().set_defaults_with_config(**kwargs)
        # Keys and values in turn. Here a name is written in one way only.
        names = [word.removeprefix("--") for word in remaining[::2]]
        self._refuse(names, [action.dest for action in self._actions])
        return remaining

    def _describe(self, name: str, known: Sequence[str]) -> str:
        if name == "config":
            return "`--config` and its file are two words: give --config RECIPE.yaml."
        return super()._describe(name, [*known, "config"])


def refuse_repeated_keys(text: str, source: str) -> None:
    """Refuses equal keys in one mapping of a YAML text, of which YAML silently takes the last one."""
    _refuse_in(yaml.compose(text, Loader=yaml.SafeLoader), source, "")


def _refuse_in(node: yaml.Node | None, source: str, path: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_in(item, source, path)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            name, identity = f"{path}.{key.value}".removeprefix("."), (key.tag, str(key.value))
            line = key.start_mark.line + 1
            if identity in lines and key.tag != _MERGE:
                raise ValueError(
                    f"{source}: the key `{name}` is given twice, in lines {lines[identity]} and {line}, and only the "
                    "last one would count. Take one of them out."
                )
            lines[identity] = line
            _refuse_in(value, source, name)


def _name(flag: str) -> str:
    return flag.partition("=")[0].lstrip("-").replace("-", "_")
