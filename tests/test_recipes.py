"""Every recipe is read by the command's own parser, and its settings can be combined."""

from pathlib import Path

import pytest

from dapo_trl import DAPOConfig
from dapo_trl.train import load_rewards, make_parser


ROOT = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(path for path in ROOT.rglob("*.y*ml") if "accelerate_configs" not in path.parts)


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a recipe may name files that are made before it is run
    # This machine may have no GPU, which is no reason to refuse a recipe for one.
    on_cpu = ["--use_cpu", "true", "--bf16", "false"]
    script_args, training_args, model_args = make_parser().parse_args_and_config(["--config", str(path), *on_cpu])
    assert isinstance(training_args, DAPOConfig)
    assert model_args.model_name_or_path
    assert script_args.dataset_name
    load_rewards(script_args)
