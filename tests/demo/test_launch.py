"""Starting the training command and reading its progress."""

import sys
from pathlib import Path

import pytest

from demo.launch import TrainingFailedError, parse_record, show_progress, train, training_command


class Bar:
    """Stands in for a progress bar."""

    def __init__(self, total):
        self.total, self.n, self.shown = total, 0, {}

    def set_postfix(self, shown, refresh):
        self.shown = shown

    def update(self, n):
        self.n += n


def test_command_runs_the_recipe_with_overrides():
    command = training_command(Path("r.yaml"), {"output_dir": Path("out"), "seed": 1})
    tail = ["-m", "dapo_trl.train", "--config", "r.yaml", "--output_dir", "out", "--seed", "1"]
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    assert command[-len(tail) :] == tail


def test_records_among_other_lines():
    assert parse_record("{'reward': '-0.5', 'step': 4}\n") == {"reward": "-0.5", "step": 4}
    assert parse_record("{broken\n") == parse_record("Loading weights\n") == {}


def test_progress_follows_the_records():
    lines = [
        "Loading weights\n",
        "{'reward': '-0.5', 'entropy': '0.4'}\n",
        "{'reward': '0.5'}\n",
        "{'train_loss': '1'}\n",
    ]
    bar = Bar(total=6)
    assert list(show_progress(lines, bar, logging_steps=4)) == lines
    assert (bar.n, bar.shown) == (6, {"reward": "0.5"})


def test_output_goes_to_the_log_and_a_failure_shows_its_end(tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max_steps: 4\nlogging_steps: 4\n")
    script = [sys.executable, "-c", "print('first'); raise SystemExit('no such field: oops')"]
    monkeypatch.setattr("demo.launch.training_command", lambda recipe, options: script)
    with pytest.raises(TrainingFailedError, match="code 1(.|\n)*oops"):
        train(recipe, {}, tmp_path / "train.log")
    assert (tmp_path / "train.log").read_text() == "first\nno such field: oops\n"
