"""
How the training phase grows with the length of completions and with the rollout, ours and GRPOTrainer's on one chart.

    python -m benchmarks.training_phase.scaling
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import torch

from benchmarks.record import RESULTS, record, show
from benchmarks.training_phase.workload import TRAINERS, TrainingPhase, build_trainer, row_lengths


matplotlib.use("Agg")
import matplotlib.pyplot as plt


ABOUT = """\
## Scaling

Processor seconds of the training phase (1 M parameters, one optimizer step) over the bound on the length of
completions, with 16 uniformly distributed lengths, and over the number of completions, with log-normal lengths.
*Exponent*: slope on the doubly logarithmic chart from the row before; 1 is linear growth. *Ratio*: GRPOTrainer's
seconds over DAPOTrainer's.

![Processor seconds of the training phase](results/training_phase_scaling.png)

Over the rollout, DAPOTrainer grows linearly: the tokens of the rows decide. GRPOTrainer grows faster than that at
first, because the longest completion of a larger rollout is longer and all rows are padded to it, until the bound on
the length is reached. Over the length, both grow linearly while the layers' matrix products dominate, and faster from
one to two thousand tokens on, where attention does, whose cost per token grows with the length; in a model of more
hidden units that point is further to the right.
"""
SETTINGS = {
    "over": "",
    "completions": "d",
    "longest": "d",
}
MEASURED = {
    "GRPOTrainer (s)": ".2f",
    "DAPOTrainer (s)": ".2f",
    "ratio": ".2f",
    "GRPOTrainer exponent": ".2f",
    "DAPOTrainer exponent": ".2f",
}


def measure(kind: str, num_rows: int, max_tokens: int) -> dict[str, Any]:
    """Processor seconds of both trainers."""
    lengths = row_lengths(kind, num_rows, max_tokens)
    seconds = {}
    for trainer in TRAINERS:
        built = build_trainer(trainer, "1M", lengths, num_steps=1)
        phase = TrainingPhase(built)
        built.train()
        seconds[f"{trainer} (s)"] = phase.processor
    return {
        "completions": num_rows,
        "longest": max(length.completion for length in lengths),
        **seconds,
        "ratio": seconds["GRPOTrainer (s)"] / seconds["DAPOTrainer (s)"],
    }


def series(over: str, kind: str, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """One curve: a row of the table for each number of completions and bound on their length."""
    rows: list[dict[str, Any]] = []
    for num_rows, max_tokens in sizes:
        size = max_tokens if over == "length" else num_rows
        row = {"over": over, "size": size, **measure(kind, num_rows, max_tokens)}
        for trainer in TRAINERS:
            row[f"{trainer} exponent"] = exponent(rows[-1], row, f"{trainer} (s)") if rows else None
        only = f"--lengths {size} --rows" if over == "length" else f"--lengths --rows {size}"
        row["command"] = f"python -m benchmarks.training_phase.scaling {only}"
        rows.append(row)
        show(SETTINGS | MEASURED, [row])
    return rows


def exponent(before: dict[str, Any], after: dict[str, Any], name: str) -> float:
    """Slope between two points on the doubly logarithmic chart."""
    growth = torch.tensor([after[name] / before[name], after["size"] / before["size"]]).log()
    return (growth[0] / growth[1]).item()


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds over length and over the rollout, both axes logarithmic."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    labels = {"length": "bound on the completion's length (tokens)", "rollout": "completions in the rollout"}
    for panel, (over, label) in zip(panels, labels.items(), strict=True):
        points = sorted((row for row in rows if row["over"] == over), key=lambda row: row["size"])
        for trainer in TRAINERS:
            panel.plot(
                [point["size"] for point in points],
                [point[f"{trainer} (s)"] for point in points],
                marker="o",
                label=trainer,
            )
        panel.set(xscale="log", yscale="log", xlabel=label, ylabel="training phase (processor s)")
        panel.set_xticks([point["size"] for point in points], [str(point["size"]) for point in points])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--lengths", nargs="*", type=int, default=[256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--rows", nargs="*", type=int, default=[16, 32, 64, 128, 256])
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    measure("uniform", 16, 256)  # the first run of a process is slow
    rows = series("length", "uniform", [(16, max_tokens) for max_tokens in arguments.lengths])
    rows += series("rollout", "log-normal", [(num_rows, 1024) for num_rows in arguments.rows])
    record("training_phase_scaling", ABOUT, SETTINGS, MEASURED, rows, arguments.results)
    recorded = json.loads((arguments.results / "training_phase_scaling.json").read_text(encoding="utf-8"))
    draw(recorded["rows"], arguments.results / "training_phase_scaling.png")


if __name__ == "__main__":
    main()
