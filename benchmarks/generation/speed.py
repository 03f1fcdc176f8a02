"""
Seconds of generation with Transformers, in several ways and in turns, against TRL's default.

    python -m benchmarks.generation.speed
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from benchmarks.generation.workload import WAYS, Workload, load_model, rollout_lengths
from benchmarks.record import RESULTS, record, show
from dapo_trl.batching.micro_batches import Lengths


ABOUT = """\
## Generation without vLLM

Seconds in which Transformers generates the completions of one rollout on the CPU. *TRL's default* computes on all rows
until the longest has ended; *ended rows leave the batch* is `DAPOTrainer`'s default (`compact_generation`). All ways
generate the same lengths, which a logits processor enforces (continuous batching: a limit for each row).
*Ratio*: seconds of TRL's default over these, the median over rounds in which every way has its turn. *Tokens*: tokens
that TRL's default decodes over useful ones. The ratio may be higher, because the last tokens, in front of a long cache
that is copied for each of them, cost more than the first.
"""
SETTINGS = {"way": "", "set": "", "completions": "d", "longest (tokens)": "d", "model": "", "dtype": ""}
MEASURED = {"seconds": ".1f", "ratio": ".2f", "ratio of processor time": ".2f", "tokens": ".2f", "rounds": "d"}
DEFAULT_WAY = "TRL's default"
COMPACT_WAY = "ended rows leave the batch"


class Setting(NamedTuple):
    """What is generated: options of the command."""

    set: str
    rows: int
    max_tokens: int
    model: str
    dtype: str
    rounds: int
    ways: tuple[str, ...]


EVERY_WAY = tuple(WAYS)
USUAL = (
    Setting("log-normal", 64, 256, "1M", "float32", rounds=3, ways=EVERY_WAY),
    Setting("constant", 64, 256, "1M", "float32", rounds=3, ways=EVERY_WAY),
    Setting("log-normal", 64, 256, "10M", "float32", rounds=1, ways=(DEFAULT_WAY, COMPACT_WAY, "static cache")),
    Setting("log-normal", 64, 1024, "1M", "float32", rounds=1, ways=(DEFAULT_WAY, COMPACT_WAY)),
    Setting("log-normal", 64, 256, "1M", "bfloat16", rounds=1, ways=(DEFAULT_WAY, COMPACT_WAY, "continuous batching")),
)
"""What is measured unless something else is asked for."""


def run(make_model: Callable[[], PreTrainedModel], lengths: list[Lengths], way: str) -> dict[str, float]:
    """Generates once and checks the lengths; with a model of its own, which continuous batching may change."""
    generate = Workload(make_model(), lengths).way(way)
    wall, processor = time.perf_counter(), time.process_time()
    found = generate()
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    expected = [row.completion for row in lengths]
    if found != expected:
        raise RuntimeError(f"{way} generated completions of {found} tokens, but the script says {expected}.")
    return seconds


def compare(
    ways: list[str], make_model: Callable[[], PreTrainedModel], lengths: list[Lengths], num_rounds: int
) -> list[dict[str, Any]]:
    """One row of the table for each way; ratios are medians over rounds."""
    rounds = []
    for i in range(num_rounds):
        order = ways if i % 2 == 0 else ways[::-1]
        rounds.append({way: run(make_model, lengths, way) for way in order})
    completions = [row.completion for row in lengths]

    def ratio(way: str, clock: str) -> float:
        return statistics.median(each[DEFAULT_WAY][clock] / each[way][clock] for each in rounds)

    return [
        {
            "way": way,
            "completions": len(completions),
            "longest (tokens)": max(completions),
            "seconds": statistics.median(each[way]["wall"] for each in rounds),
            "ratio": ratio(way, "wall"),
            "ratio of processor time": ratio(way, "processor"),
            "tokens": max(completions) * len(completions) / sum(completions),
            "rounds": num_rounds,
        }
        for way in ways
    ]


def measure(setting: Setting) -> list[dict[str, Any]]:
    """[`compare`] for one setting, with what tells the rows apart and the command that measures them."""
    make_model = functools.partial(load_model, setting.model, setting.dtype)
    for way in setting.ways:
        run(make_model, rollout_lengths("constant", 8, max_tokens=16), way)  # the first run is slow
    lengths = rollout_lengths(setting.set, setting.rows, setting.max_tokens)
    options = [f"--{name.replace('_', '-')} {value}" for name, value in setting._asdict().items() if name != "ways"]
    labels = {"set": setting.set, "model": Path(setting.model).name, "dtype": setting.dtype}
    command = f"python -m benchmarks.generation.speed {' '.join(options)} --ways "
    compared = compare(list(setting.ways), make_model, lengths, setting.rounds)
    return [labels | row | {"command": f'{command}"{row["way"]}"'} for row in compared]


def main() -> None:
    parser = argparse.ArgumentParser(description=f"{__doc__.splitlines()[1]} Without options: all rows of the page.")
    parser.add_argument("--set", default="log-normal")
    parser.add_argument("--rows", type=int, default=64, help="completions in the rollout")
    parser.add_argument("--max-tokens", type=int, default=256, help="no completion is longer")
    parser.add_argument("--model", default="1M", help="1M, 10M, or the directory of a model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="beside TRL's default")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = vars(parser.parse_args())
    results = arguments.pop("results")
    is_usual = all(value == parser.get_default(name) for name, value in arguments.items())
    asked = Setting(**arguments | {"ways": tuple(dict.fromkeys([DEFAULT_WAY, *arguments["ways"]]))})

    torch.set_num_threads(1)
    for setting in USUAL if is_usual else (asked,):
        rows = measure(setting)
        show(SETTINGS | MEASURED, rows)
        record("generation_speed", ABOUT, SETTINGS, MEASURED, rows, results)


if __name__ == "__main__":
    main()
