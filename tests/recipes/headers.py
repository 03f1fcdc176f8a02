"""Reads the command lines in the header of a recipe."""

import re
import shlex

from .table import RECIPES


def commands(name: str, command: str) -> list[list[str]]:
    """Words after `<command>` in each command line in the header, continued lines joined."""
    header = (RECIPES / name).read_text().split("\n\n")[0]
    text = "\n".join(line.removeprefix("#") for line in header.splitlines()).replace("\\\n", " ")
    return [shlex.split(found) for found in re.findall(rf"{re.escape(command)} (.*)", text)]
