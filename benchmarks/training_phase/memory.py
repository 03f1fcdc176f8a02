"""
Peak memory of the training phase, `DAPOTrainer` against `GRPOTrainer`: same rows, each in a process of its own.

    python -m benchmarks.training_phase.memory
"""

import argparse
import gc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, record, show
from benchmarks.training_phase.workload import (
    MODELS,
    NUM_GENERATIONS,
    SETS,
    TRAINERS,
    build_trainer,
    chosen_settings,
    costliest_micro_batch,
    row_lengths,
)
from dapo_trl.batching.micro_batches import Lengths


ABOUT = """\
## Peak memory

The highest resident memory (`VmHWM`) in the training phase above the level at its begin, when the model is loaded and
the rollout is generated and scored; gradients and the optimizer's state are part of it. Each measurement is a process
of its own, which trains a few tokens before, so that code is not counted. *Ratio*: DAPOTrainer over GRPOTrainer,
lower is better. *Tokens*: the costliest micro-batch with its padding (`padding/max_micro_batch_tokens` in the log), on
which the activations depend. When memory is short, lower `per_device_train_batch_size` and raise
`gradient_accumulation_steps`: the optimizer steps stay the same.

Two things save memory. Balancing does where lengths differ: with log-normal ones the costliest micro-batch has a third
of the tokens; with uniform ones no partition of 64 rows into 16 micro-batches has less than 0.61; with constant ones
there is nothing to gain. And on a CPU, DAPOTrainer lets TRL's LM head work on 256 tokens at a time instead of 4,096;
this is all of the difference with constant lengths. A GPU needs no such chunks, so that there the ratio is nearer to
that of the tokens.
"""
SETTINGS = {
    "set": "",
    "completions": "d",
    "model": "",
}
MEASURED = {
    "GRPOTrainer (MB)": ".0f",
    "DAPOTrainer (MB)": ".0f",
    "ratio": ".2f",
    "GRPOTrainer tokens": "d",
    "DAPOTrainer tokens": "d",
}
USUAL = [("1M", 64, kind) for kind in SETS] + [("1M", 256, "log-normal"), ("10M", 64, "log-normal")]
"""What is measured unless something else is asked for: model, completions, set."""


def resident(kind: str) -> float:
    """`VmRSS` (now) or `VmHWM` (highest so far) of this process, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1000


def measure(trainer: str, model: str, kind: str, num_rows: int) -> float:
    """MB of the training phase in this process, which must not have trained before."""
    build_trainer(trainer, model, [Lengths(1, 2)] * NUM_GENERATIONS, num_steps=1).train()  # loads code into memory
    gc.collect()
    built = build_trainer(trainer, model, row_lengths(kind, num_rows), num_steps=1)
    score, before = built._calculate_rewards, []

    def score_then_look(*args):
        rewards = score(*args)
        before.append(resident("VmRSS"))
        return rewards

    built._calculate_rewards = score_then_look
    built.train()
    return resident("VmHWM") - before[0]


def measure_apart(*setting) -> float:
    """[`measure`] in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_phase.memory", "--measure"]
    process = subprocess.run([*command, *map(str, setting)], capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"The measurement of {setting} failed:\n{process.stderr}")
    return float(process.stdout.split()[-1])


def compare(model: str, kind: str, num_rows: int) -> dict[str, Any]:
    """One row of the table."""
    theirs, ours = (measure_apart(trainer, model, kind, num_rows) for trainer in TRAINERS)
    return {
        "set": kind,
        "completions": num_rows,
        "model": model,
        "GRPOTrainer (MB)": theirs,
        "DAPOTrainer (MB)": ours,
        "ratio": ours / theirs,
        **{f"{trainer} tokens": costliest_micro_batch(trainer, row_lengths(kind, num_rows)) for trainer in TRAINERS},
        "command": f"python -m benchmarks.training_phase.memory --set {kind} --rows {num_rows} --model {model}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--set", nargs="+", choices=SETS)
    parser.add_argument("--rows", nargs="+", type=int, help="completions in the rollout")
    parser.add_argument("--model", nargs="+", choices=MODELS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=4, metavar=("TRAINER", "MODEL", "SET", "ROWS"), help="print MB and end")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    if arguments.measure:
        *setting, num_rows = arguments.measure
        print(measure(*setting, int(num_rows)))
        return
    chosen = (arguments.model, arguments.rows, arguments.set)
    for model, num_rows, kind in chosen_settings(USUAL, chosen, (["1M"], [64], SETS)):
        rows = [compare(model, kind, num_rows)]
        show(SETTINGS | MEASURED, rows)
        record("training_phase_memory", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
