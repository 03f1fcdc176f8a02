"""Which files are pushed, and the recipe without secrets."""

import os
from pathlib import Path

import pytest

from dapo_trl.hub import files
from dapo_trl.hub.files import stage
from dapo_trl.hub.recipe import save_recipe, without_secrets


def write(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{directory.name}/{name}")


def staged(checkpoint: Path, target: Path, whole_checkpoint: str | None = None) -> dict[str, str]:
    stage(checkpoint, checkpoint.parent, target, whole_checkpoint)
    return {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint in a run that has more files than are to be pushed."""
    run = tmp_path / "run"
    write(
        run,
        "README.md",
        "recipe.yaml",
        "runs/host/events",
        "evaluation/summary-a.json",
        "evaluation/completions.jsonl",
    )
    write(run, "model.safetensors", "completions/step_1.parquet", "notes.md")
    directory = run / "checkpoint-7"
    write(directory, "model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md")
    write(
        directory, "optimizer.pt", "trainer_state.json", "training_args.bin", "dapo_state_0.pt", "global_step7/x.bin"
    )
    return directory


def test_a_model_and_what_tells_of_its_run(checkpoint, tmp_path):
    (tmp_path / "staged").mkdir()
    pushed = staged(checkpoint, tmp_path / "staged")
    model = ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")
    run = ("README.md", "recipe.yaml", "runs/host/events", "evaluation/summary-a.json")
    expected = {name: f"checkpoint-7/{name}" for name in model} | {name: f"run/{name}" for name in run}
    assert pushed == expected


def test_a_whole_checkpoint(checkpoint, tmp_path):
    (tmp_path / "staged").mkdir()
    pushed = staged(checkpoint, tmp_path / "staged", whole_checkpoint="last-checkpoint")
    whole = {name.removeprefix("last-checkpoint/") for name in pushed if name.startswith("last-checkpoint/")}
    there = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert whole == there - {"training_args.bin"}
    assert pushed["config.json"] == "checkpoint-7/config.json"


@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_staged_outlives_the_checkpoint(checkpoint, tmp_path, has_links, monkeypatch):
    def link(source, target):
        raise OSError("Operation not supported")

    if not has_links:
        monkeypatch.setattr(files.os, "link", link)
    (tmp_path / "staged").mkdir()
    stage(checkpoint, checkpoint.parent, tmp_path / "staged")
    weights = tmp_path / "staged" / "model.safetensors"
    assert (os.stat(weights).st_nlink == 2) is has_links  # no second copy of the weights, where that is possible
    (checkpoint / "model.safetensors").unlink()
    assert weights.read_text() == "checkpoint-7/model.safetensors"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub_token: hf_abc", "hub_token: not-published"),
        ("a: 1\n# hub_token: 'hf_abc'\n", "a: 1\n# hub_token: not-published\n"),
        ("env:\n  WANDB_API_KEY: abc  # mine\n", "env:\n  WANDB_API_KEY: not-published  # mine\n"),
        ("env: {A: 1, WANDB_API_KEY: abc}", "env: {A: 1, WANDB_API_KEY: not-published}"),
        ("# command --hub_token hf_abc --seed 1", "# command --hub_token not-published --seed 1"),
        ("# command --hub_token=hf_abc --seed 1", "# command --hub_token=not-published --seed 1"),
        ("# HF_TOKEN='a b' accelerate launch", "# HF_TOKEN=not-published accelerate launch"),
        ("# hub_token: |\n#   hf_abc\nseed: 1\n", "# hub_token: not-published\nseed: 1\n"),
        ("# mine is hf_abcdefghijklmnopqrst.", "# mine is not-published."),
        ("hub_token : |  # HF_TOKEN=abc\n  hf_abc\nseed: 1\n", "hub_token : not-published\nseed: 1\n"),
        ("prompt: |  # HF_TOKEN=abc\n  a\nseed: 1\n", "prompt: |  # HF_TOKEN=not-published\n  a\nseed: 1\n"),
        ("x: &name abc\nhub_token: *name\n", "x: &name not-published\nhub_token: *name\n"),
        ('hub_token:\n  "hf_\\x61bc\n   def"\nseed: 1', "hub_token:\n  not-published\nseed: 1"),
        ("# the key: raise beta\nhub_token: null\n", "# the key: raise beta\nhub_token: null\n"),
        ("", ""),
        ("eos_token: <eos>", "eos_token: <eos>"),
        ("token_normalization: step  # each token counts", "token_normalization: step  # each token counts"),
    ],
)
def test_secrets_are_left_out(text, expected):
    assert without_secrets(text) == expected


def test_a_run_without_a_recipe_file(tmp_path):
    save_recipe(["--model_name_or_path", "me/model", "--prompt_template", "{problem} ="], str(tmp_path / "out"))
    command = "# accelerate launch -m dapo_trl.train --model_name_or_path me/model --prompt_template '{problem} ='\n"
    assert (tmp_path / "out" / "recipe.yaml").read_text() == command
