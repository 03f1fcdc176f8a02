"""The plot of a run, from a made-up log."""

import json

import pytest

from demo.plot import accuracy, plot_run, read_log


def record(step: int) -> dict:
    return {
        "step": step,
        "reward": -0.5,
        "rewards/accuracy/mean": -0.5,
        "dynamic_sampling/acceptance_rate": 0.8,
        "entropy": 0.4,
        "completions/mean_length": 20.0,
    }


def write_state(folder, steps):
    folder.mkdir(parents=True, exist_ok=True)
    history = [*map(record, steps), {"step": steps[-1], "train_runtime": 1.0}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))


def test_latest_checkpoint_is_read(tmp_path):
    write_state(tmp_path / "checkpoint-8", [4, 8])
    write_state(tmp_path / "checkpoint-12", [4, 8, 12])
    assert [entry["step"] for entry in read_log(tmp_path)] == [4, 8, 12]
    write_state(tmp_path, [4])
    assert [entry["step"] for entry in read_log(tmp_path)] == [4]


def test_missing_log_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_log(tmp_path)


def test_accuracy_undoes_the_reward():
    assert accuracy(record(4)) == 0.25


def test_plot_writes_a_png(tmp_path):
    plot_run([record(step) for step in (4, 8, 12)], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
