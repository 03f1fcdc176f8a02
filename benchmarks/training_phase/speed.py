"""
Seconds of the training phase, `DAPOTrainer` against `GRPOTrainer`: same rows and optimizer steps, in turns.

    python -m benchmarks.training_phase.speed
"""

import argparse
import gc
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, record, show
from benchmarks.training_phase.workload import (
    MODELS,
    SETS,
    TRAINERS,
    TrainingPhase,
    build_model,
    build_trainer,
    chosen_settings,
    row_lengths,
)
from tests.helpers import largest_difference, weights


ABOUT = """\
## Training phase

Seconds from the end of generation and scoring to the end of the rollout's last optimizer step: `DAPOTrainer` with
balanced micro-batches against `GRPOTrainer`. Both train the same rows in the same optimizer steps, 4 rows per
micro-batch on average. With four steps per rollout, old log-probabilities are computed, too, and `GRPOTrainer` is
told the tokens of each optimizer step, because only so are the weights comparable. *Ratio*: GRPOTrainer's seconds over
DAPOTrainer's. *Efficiency*: useful tokens over computed tokens. *Difference*: the largest of any weight afterwards;
*moved*: how far training has moved the weights.

With log-normal lengths GRPOTrainer computes 3.6 times the tokens, and its attention takes 9 times DAPOTrainer's time,
as a row's cost grows with the square of the padded length. On a CPU, DAPOTrainer's LM head also works in small
chunks, which stay in the cache. What remains in DAPOTrainer, with 1 M and 10 M parameters
(torch.profiler, 64 and 32 completions): matrix products of the layers, 33% and 59%; LM head with log-probabilities and
entropy, 29% and 9%; attention, 25% and 19%. The machine had other work at times: where the two ratios differ, that of
processor time is the steadier one. The weights differ by rounding, which AdamW enlarges where gradients are nearly
zero.
"""
SETTINGS = {
    "set": "",
    "completions": "d",
    "steps": "d",
    "model": "",
}
MEASURED = {
    "pairs": "d",
    "GRPOTrainer (s)": ".2f",
    "DAPOTrainer (s)": ".2f",
    "ratio": ".2f",
    "ratio of processor time": ".2f",
    "efficiency": ".3f",
    "difference": ".1e",
    "moved": ".0e",
}
USUAL = [("1M", 64, kind, num_steps) for kind in SETS for num_steps in (1, 4)]
USUAL += [("1M", 256, kind, 1) for kind in SETS] + [("1M", 256, "log-normal", 4)]
USUAL += [("10M", 64, kind, 1) for kind in SETS] + [("10M", 64, "log-normal", 4)]
"""What is measured unless something else is asked for: model, completions, set, optimizer steps."""


def run(trainer: str, model: str, kind: str, num_rows: int, num_steps: int) -> dict[str, Any]:
    """One rollout with one of the trainers."""
    built = build_trainer(trainer, model, row_lengths(kind, num_rows), num_steps)
    phase = TrainingPhase(built)
    gc.collect()
    gc.freeze()
    built.train()
    return {
        "wall": phase.wall,
        "processor": phase.processor,
        "weights": weights(built.model),
        "efficiency": built.state.log_history[-1].get("padding/efficiency"),
    }


def compare(model: str, kind: str, num_rows: int, num_steps: int, num_pairs: int) -> dict[str, Any]:
    """Alternating runs; the ratios are medians over pairs of neighbouring runs."""
    setting = (model, kind, num_rows, num_steps)
    pairs = []
    for i in range(num_pairs):
        order = ("GRPOTrainer", "DAPOTrainer") if i % 2 == 0 else ("DAPOTrainer", "GRPOTrainer")
        pairs.append({trainer: run(trainer, *setting) for trainer in order})
    theirs, ours = ([pair[trainer] for pair in pairs] for trainer in ("GRPOTrainer", "DAPOTrainer"))
    start = weights(build_model(model))

    def ratio(clock: str) -> float:
        return statistics.median(their[clock] / our[clock] for their, our in zip(theirs, ours, strict=True))

    return {
        "set": kind,
        "completions": num_rows,
        "steps": num_steps,
        "model": model,
        "GRPOTrainer (s)": statistics.median(result["wall"] for result in theirs),
        "DAPOTrainer (s)": statistics.median(result["wall"] for result in ours),
        "ratio": ratio("wall"),
        "ratio of processor time": ratio("processor"),
        "efficiency": ours[0]["efficiency"],
        "difference": largest_difference(theirs[0]["weights"], ours[0]["weights"]),
        "moved": largest_difference(start, ours[0]["weights"]),
        "pairs": num_pairs,
        "command": f"python -m benchmarks.training_phase.speed --set {kind} --rows {num_rows} --steps {num_steps} "
        f"--model {model} --pairs {num_pairs}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--full", action="store_true", help="all combinations (hours)")
    parser.add_argument("--set", nargs="+", choices=SETS)
    parser.add_argument("--rows", nargs="+", type=int, help="completions in the rollout")
    parser.add_argument("--steps", nargs="+", type=int, help="optimizer steps per rollout")
    parser.add_argument("--model", nargs="+", choices=MODELS)
    parser.add_argument("--pairs", type=int, help="runs of each trainer; 2 for the small model and rollout, else 1")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    chosen = (arguments.model, arguments.rows, arguments.set, arguments.steps)
    every = (MODELS, (64, 256), SETS, (1, 4))
    settings = chosen_settings(USUAL, every if arguments.full and not any(chosen) else chosen, every)

    torch.set_num_threads(1)
    for trainer in TRAINERS:
        run(trainer, "1M", "constant", num_rows=16, num_steps=1)  # the first run of a process is slow
    for model, num_rows, kind, num_steps in settings:
        num_pairs = arguments.pairs or (2 if model == "1M" and num_rows <= 64 else 1)
        rows = [compare(model, kind, num_rows, num_steps, num_pairs)]
        show(SETTINGS | MEASURED, rows)
        record("training_phase_speed", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
