"""Four curves of a training run, from the trainer's own log."""

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib


matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read_log(run_dir: Path) -> list[dict]:
    """
    The training records of a run's `trainer_state.json`; of its latest checkpoint if the run itself has none.

    Raises:
        FileNotFoundError: if there is neither.
    """
    checkpoints = sorted(run_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for folder in (run_dir, *reversed(checkpoints)):
        state = folder / "trainer_state.json"
        if state.is_file():
            history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
            return [record for record in history if "reward" in record]
    raise FileNotFoundError(f"No trainer_state.json in {run_dir} or in a checkpoint of it: did the training save?")


def accuracy(record: dict) -> float:
    """Fraction of right completions among all generated ones; the accuracy reward is +1 or -1."""
    return (record["rewards/accuracy/mean"] + 1) / 2


PANELS: dict[str, Callable[[dict], float]] = {
    "Accuracy of sampled completions": accuracy,
    "Acceptance rate of groups": lambda record: record["dynamic_sampling/acceptance_rate"],
    "Entropy (nats per token)": lambda record: record["entropy"],
    "Completion length (tokens)": lambda record: record["completions/mean_length"],
}


def plot_run(records: list[dict], path: Path) -> None:
    """Writes a PNG with one panel per curve, against optimizer steps."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    steps = [record["step"] for record in records]
    for axis, (title, value) in zip(axes.flat, PANELS.items(), strict=True):
        axis.plot(steps, [value(record) for record in records])
        axis.set_title(title)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("Optimizer step")
    figure.savefig(path, dpi=120)
    plt.close(figure)
