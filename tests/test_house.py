"""Rules of the whole package: one trainer class, imports that point one way, few modules to load."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import yaml
from trl import GRPOTrainer


ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dapo_trl"


def module_name(path: Path) -> str:
    """Such as `dapo_trl.run.checkpoint`, or `dapo_trl.run` of its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PATHS = {module_name(path): path for path in PACKAGE.rglob("*.py")}
TREES = {module: ast.parse(path.read_text()) for module, path in PATHS.items()}


# One trainer


def trainer_classes() -> dict[str, ast.ClassDef]:
    """Classes of the package that inherit from a trainer, by module and name."""
    return {
        f"{module}.{node.name}": node
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Trainer") for base in node.bases)
    }


def is_trainer_method(name: str) -> bool:
    return callable(getattr(GRPOTrainer, name, None))


def test_one_class_overrides_methods_of_trl_each_once():
    ((name, trainer),) = trainer_classes().items()
    assert name == "dapo_trl.trainer.DAPOTrainer"
    assert [ast.unparse(base) for base in trainer.bases] == ["GRPOTrainer"]
    methods = [node.name for node in trainer.body if isinstance(node, ast.FunctionDef)]
    overridden = [method for method in methods if is_trainer_method(method)]
    assert "_compute_loss" in overridden
    assert len(overridden) == len(set(overridden)) <= 14


def test_no_method_of_the_trainer_is_replaced_on_an_object():
    assigned = [
        (module, target.attr)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and "trainer" in ast.unparse(target.value)
    ]
    assert [(module, name) for module, name in assigned if is_trainer_method(name)] == []


def test_the_trainer_is_short():
    assert len(PATHS["dapo_trl.trainer"].read_text().splitlines()) <= 450


# Imports


def loaded_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is loaded: none in functions, and none for type checkers only."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        is_typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for field in ("body", "orelse", "finalbody"):
            if not (is_typing and field == "body"):
                yield from loaded_statements(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from loaded_statements(handler.body)


def imported_modules(module: str) -> Iterator[str]:
    """Modules of the package that a module imports when it is loaded."""
    package = module if PATHS[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in loaded_statements(TREES[module].body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in PATHS)
        elif isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package)
            names = (f"{start}.{alias.name}" for alias in node.names)
            yield from (name if name in PATHS else start for name in names if start in PATHS)


IMPORTS = {module: set(imported_modules(module)) - {module} for module in PATHS}

BELONGS_TO = {
    # Know nothing but settings. DAPOConfig is built with them: the rest of their folders stands above it.
    "dapo_trl.checks.fields": "dapo_trl.config",
    "dapo_trl.checks.settings": "dapo_trl.config",
    "dapo_trl.generation.kwargs": "dapo_trl.config",
    # Read a recipe, as estimates and the training command do, too: the commands stand above those.
    "dapo_trl.commands.command_line": "dapo_trl.recipe",
    "dapo_trl.commands.recipe": "dapo_trl.recipe",
    "dapo_trl.commands.recipe_parser": "dapo_trl.recipe",
}
"""Modules that stand below the rest of their folder, and what they belong to."""


def folder(module: str) -> str:
    """`dapo_trl.run` of `dapo_trl.run.checkpoint`; modules at the root stand for themselves."""
    return BELONGS_TO.get(module) or ".".join(module.split(".")[:2])


def find_circle(imports: dict[str, set[str]]) -> str:
    """Modules or folders of which each imports the next, and the last is the first; empty if imports point one way."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def test_imports_are_found():
    assert IMPORTS["dapo_trl.__main__"] >= {"dapo_trl", "dapo_trl.commands.command_line"}
    assert {"dapo_trl.config", "dapo_trl.run.checkpoint"} <= IMPORTS["dapo_trl.trainer"]
    assert "dapo_trl.trainer" not in IMPORTS["dapo_trl"]  # for type checkers only
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) in (
        "a -> b -> c -> a",
        "b -> c -> a -> b",
        "c -> a -> b -> c",
    )


def test_imports_between_modules_point_one_way():
    assert find_circle(IMPORTS) == ""


def test_imports_between_folders_point_one_way():
    folders = defaultdict(set)
    for module, imported in IMPORTS.items():
        folders[folder(module)] |= {folder(other) for other in imported} - {folder(module)}
    assert find_circle(folders) == ""


def test_only_what_is_launched_imports_the_trainer():
    assert [module for module, imported in IMPORTS.items() if "dapo_trl.trainer" in imported] == ["dapo_trl.train"]


# Modules


def test_at_the_root_is_only_what_users_import_or_launch():
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "config.py", "train.py", "trainer.py", "py.typed"}


def test_the_trainer_loads_no_more_than_it_needs():
    code = "import sys; from dapo_trl import DAPOTrainer; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = [module for module in process.stdout.split() if module in PATHS]
    assert "dapo_trl.trainer" in modules
    names = ("commands", "data", "estimation", "evaluation", "hub", "reporting", "rewards")
    assert {module for module in modules if folder(module) in {f"dapo_trl.{name}" for name in names}} == set()
    assert len(modules) <= 60


# Continuous integration


def test_the_workflow_runs_what_the_script_does():
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["make"]
    assert job["steps"][-1] == {"run": "make ${{ matrix.target }}"}
    targets = job["strategy"]["matrix"]["target"]
    assert [f"make {target}" for target in targets] == [line for line in script if line.startswith("make ")]
