"""`setup.cfg` asks for what the package imports, and `constraints.txt` names the tested version of each."""

import ast
import configparser
import re
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]

OF_EXTRAS = {"matplotlib", "vllm"}
"""Imported by commands that say how to install them."""


DISTRIBUTIONS = {"yaml": "pyyaml"}
"""Those that are named otherwise than their module."""


def imported() -> set[str]:
    """Names of the distributions that modules of the package import, here spelled as their modules are."""
    modules = set()
    for path in (ROOT / "dapo_trl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module)
    names = {module.partition(".")[0] for module in modules}
    return {DISTRIBUTIONS.get(name, name) for name in names - sys.stdlib_module_names}


def names_of(lines: str) -> set[str]:
    found = (re.match(r"[\w-]+", line) for line in lines.splitlines())
    return {match[0].lower().replace("-", "_") for match in found if match}


def required() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return names_of(setup["options"]["install_requires"])


def test_everything_that_is_imported_is_required():
    assert imported() - OF_EXTRAS == required()


def test_everything_that_is_required_has_a_tested_version():
    assert required() - names_of((ROOT / "constraints.txt").read_text()) == {"trl"}  # pinned in setup.cfg
