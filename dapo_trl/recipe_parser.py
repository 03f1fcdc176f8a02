"""The parser of commands whose settings may stand in a YAML file."""

import difflib
from collections.abc import Iterable

from trl import TrlParser

from .secret_values import remember


CUTOFF = 0.75
"""Likeness (`difflib`) from which on another name is suggested: misspelt names, not other names with equal words."""


class RecipeParser(TrlParser):
    """
    A [`~trl.TrlParser`] that refuses unknown keys, in the file and on the command line, and names the likely one.

    The file is checked before anything is made of its values: a misspelt key often makes another setting impossible.
    """

    def set_defaults_with_config(self, **kwargs) -> list[str]:
        """As TRL's, but unknown keys of the file raise `ValueError`."""
        remaining = super().set_defaults_with_config(**kwargs)
        self._refuse(remaining[::2])  # keys and values in turn
        return remaining

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but unknown words raise `ValueError`."""
        known, unknown = super().parse_known_args(args, namespace)
        remember(vars(known))
        # The words after an unknown key are its values; without a key they are unknown themselves.
        self._refuse([word for word in unknown if word.startswith("--")] or unknown)
        return known, unknown

    def _refuse(self, words: Iterable[str]) -> None:
        messages = [self._describe(word.partition("=")[0].removeprefix("--").replace("-", "_")) for word in words]
        if messages:
            raise ValueError(" ".join(messages))

    def _describe(self, key: str) -> str:
        if key == "config":
            return "`--config` and its file are two words: give --config RECIPE.yaml."
        similar = difflib.get_close_matches(key, [action.dest for action in self._actions], n=1, cutoff=CUTOFF)
        if similar:
            return f"unknown key `{key}`; did you mean `{similar[0]}`?"
        return f"unknown key `{key}`; --help lists the known ones."
