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
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks.generation.workload import WAYS, Workload, load_model, rollout_lengths
from benchmarks.record import RESULTS, record, show
from dapo_trl.loss import Lengths


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--set", nargs="+", default=["log-normal", "constant"])
    parser.add_argument("--rows", type=int, default=64, help="completions in the rollout")
    parser.add_argument("--max-tokens", type=int, default=256, help="no completion is longer")
    parser.add_argument("--model", nargs="+", default=["1M", "10M"], help="1M, 10M, or directories of models")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="beside TRL's default")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    ways = list(dict.fromkeys([DEFAULT_WAY, *arguments.ways]))
    for name in arguments.model:
        make_model = functools.partial(load_model, name, arguments.dtype)
        for way in ways:
            run(make_model, rollout_lengths("constant", 8, max_tokens=16), way)  # the first run is slow
        for kind in arguments.set:
            lengths = rollout_lengths(kind, arguments.rows, arguments.max_tokens)
            command = (
                f"python -m benchmarks.generation.speed --set {kind} --rows {arguments.rows} --max-tokens "
                f"{arguments.max_tokens} --model {name} --dtype {arguments.dtype} --rounds {arguments.rounds} --ways "
            )
            labels = {"set": kind, "model": Path(name).name, "dtype": arguments.dtype}
            rows = [
                labels | row | {"command": f'{command}"{row["way"]}"'}
                for row in compare(ways, make_model, lengths, arguments.rounds)
            ]
            show(SETTINGS | MEASURED, rows)
            record("generation_speed", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
