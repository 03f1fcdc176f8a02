"""The parsers of commands, strict ones; also of those whose settings may stand in a YAML file."""

import argparse
import contextlib
import difflib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from trl import TrlParser

from ..run.secret_values import mask_text, mask_words, remember


logger = logging.getLogger(__name__)

_MERGE = "tag:yaml.org,2002:merge"

CUTOFF = 0.75
"""Likeness (`difflib`) from which on another name is suggested: misspelt names, not other names with equal words."""


class StrictParser(argparse.ArgumentParser):
    """
    A parser that refuses unknown and abbreviated flags and names the likely one.

    An abbreviation that argparse would take for one flag today may mean another one tomorrow.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but unknown words raise `ValueError`."""
        words = sys.argv[1:] if args is None else list(args)
        # Before the parent says which of the required flags are missing: they may be there, but misspelt.
        self.refuse_unknown_flags(words)
        known, unknown = super().parse_known_args(words, namespace)
        remember(vars(known))
        self._refuse(map(_name, unknown), self.flags)  # words that belong to no flag
        return known, unknown

    def parse(self, words: Sequence[str] | None = None) -> argparse.Namespace:
        """The words of a user; flags that are given twice are warned of."""
        self.warn_of_repeated_flags(sys.argv[1:] if words is None else words)
        return self.parse_args(words)

    @property
    def flags(self) -> list[str]:
        """Names of all flags, without dashes before them and with underscores in them."""
        return list(dict.fromkeys(_name(flag) for flag in self._option_string_actions))

    def refuse_unknown_flags(self, words: Sequence[str], others: Iterable[str] = ()) -> None:
        """
        Args:
            words (`Sequence[str]`): a command line.
            others (`Iterable[str]`): flags of another parser, which takes them first.

        Raises:
            ValueError: for flags that are neither of this parser nor of the other; it names those that may be meant.
        """
        known = {*self._option_string_actions, *others}
        flags = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
        unknown = [_name(flag) for flag in flags if flag not in known and " " not in flag]  # with a space: a value
        self._refuse(unknown, [*self.flags, *map(_name, others)])

    def warn_of_repeated_flags(self, words: Sequence[str]) -> None:
        """
        Warns of flags that are given twice with different values: the last one counts.

        They are not refused, because scripts put flags of their own before those that they pass on.
        """
        given: dict[str, list[str]] = {}
        values: list[str] | None = None
        for word in mask_words(words):
            flag, equals, value = word.partition("=")
            action = self._option_string_actions.get(flag) if word.startswith("-") else None
            if action is not None:
                values = [value] if equals else []
                if flag.startswith(("--no_", "--no-")) and _name(flag) != action.dest:
                    values = ["false"]
                given.setdefault(action.dest, []).append(values)
            elif word.startswith("--"):
                values = None
            elif values is not None:
                values.append(word)
        for name, lists in given.items():
            texts = [" ".join(one) or "true" for one in lists]
            if len(set(texts)) > 1 and os.environ.get("RANK", "0") == "0":
                logger.warning("--%s is given more than once: %s. The last one counts.", name, ", then ".join(texts))

    def _refuse(self, unknown: Iterable[str], known: Sequence[str]) -> None:
        messages = [self._describe(name, known) for name in unknown]
        if messages:
            raise ValueError(mask_text(" ".join(messages)))

    def _describe(self, name: str, known: Sequence[str]) -> str:
        underscored = name.replace("-", "_")
        longer = sorted((other for other in known if underscored and other.startswith(underscored)), key=len)
        similar = [*longer, *difflib.get_close_matches(underscored, known, n=1, cutoff=CUTOFF)]
        if similar:
            return f"unknown key `{name}`; did you mean `{similar[0]}`?"
        return f"unknown key `{name}`; --help lists the known ones."


class RecipeParser(StrictParser, TrlParser):
    """
    A [`~trl.TrlParser`] that is strict on the command line and in the file.

    The file is checked before anything is made of its values: a misspelt key often makes another setting impossible.
    """

    def parse(self, words: Sequence[str] | None = None) -> tuple:
        """The words of a user, and the file; flags that are given twice are warned of."""
        self.warn_of_repeated_flags(sys.argv[1:] if words is None else words)
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
        for word in words:
            _refuse_in_json(word.partition("=")[2] if word.startswith("--") else word, "the command line")
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
    """
    YAML takes the last of equal keys without a word, and the others are lost.

    Args:
        text (`str`): YAML, or JSON.
        source (`str`): where it is from, for the message.

    Raises:
        ValueError: if a key stands twice in one mapping, at any depth, also in JSON that stands in a text.
    """
    _refuse_in(yaml.compose(text, Loader=yaml.SafeLoader), source, "")


def _refuse_in(node: yaml.Node | None, source: str, path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            name = f"{path}.{key.value}".removeprefix(".")
            line = key.start_mark.line + 1
            if (key.tag, str(key.value)) in lines and key.tag != _MERGE:
                first = lines[key.tag, str(key.value)]
                raise ValueError(
                    f"{source}: the key `{name}` is given twice, in lines {first} and {line}, and only the last one "
                    "would count. Take one of them out."
                )
            lines[key.tag, str(key.value)] = line
            _refuse_in(value, source, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_in(item, source, path)
    elif isinstance(node, yaml.ScalarNode):
        _refuse_in_json(node.value, source)


def _refuse_in_json(text: str, source: str) -> None:
    if text.startswith("{"):
        with contextlib.suppress(yaml.YAMLError):  # it is none, such as a template that begins with `{problem}`
            refuse_repeated_keys(text, source)


def _name(flag: str) -> str:
    return flag.partition("=")[0].lstrip("-").replace("-", "_")
