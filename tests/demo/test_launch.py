"""Starting the training command and reading its progress."""

import sys
from pathlib import Path

import pytest

from demo.launch import TrainingFailedError, show_progress, train, training_command


class Bar:
    """Stands in for a progress bar."""

    def __init__(self, total):
        self.total, self.n, self.written = total, 0, []

    def write(self, line):
        self.written.append(line)

    def update(self, n):
        self.n += n


def test_command_runs_the_recipe_with_overrides():
    command = training_command(Path("r.yaml"), {"output_dir": Path("out"), "seed": 1})
    tail = ["-m", "dapo_trl.train", "--config", "r.yaml", "--output_dir", "out", "--seed", "1"]
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    assert command[-len(tail) :] == tail


def test_progress_follows_the_rollouts():
    lines = [
        "Loading weights\n",
        "rollout  1/12  reward -0.500  entropy 0.400\n",
        "evaluation after step 4  avg@4 0.300\n",
        "rollout  2/12  reward  0.500\n",
        "8 optimizer steps in 3.0 s\n",
    ]
    bar = Bar(total=None)
    assert list(show_progress(lines, bar)) == lines
    assert (bar.n, bar.total) == (2, 12)
    assert bar.written == [line.rstrip() for line in lines[1:4]]


def test_output_goes_to_the_log_and_a_failure_shows_its_end(tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max_steps: 4\n")
    script = [sys.executable, "-c", "print('first'); raise SystemExit('no such field: oops')"]
    monkeypatch.setattr("demo.launch.training_command", lambda recipe, options: script)
    with pytest.raises(TrainingFailedError, match="code 1(.|\n)*oops"):
        train(recipe, {}, tmp_path / "train.log")
    assert (tmp_path / "train.log").read_text() == "first\nno such field: oops\n"
