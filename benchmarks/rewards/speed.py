"""
Seconds to score math answers in texts of 2,000 tokens: `accuracy` against TRL's `accuracy_reward`, in one run.

    python -m benchmarks.rewards.speed
"""

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trl.rewards import accuracy_reward

from benchmarks.record import RESULTS, record, show
from dapo_trl.rewards import accuracy


ABOUT = """\
## Scoring

Completions of 2,000 tokens (8,000 characters) of reasoning that end in a boxed answer, right in half of them, each
with a gold of its own, so that no verdict is remembered: answers of MATH (the test set, https://github.com/hendrycks/math,
MIT), or integers. `accuracy` on all cores against TRL's `accuracy_reward`. Both have been called
before. *Right*: verdicts that are as they should be. *Ratio*: TRL's seconds over ours.
"""
SETTINGS = {
    "answers": "",
    "completions": "d",
}
MEASURED = {
    "cores": "d",
    "accuracy_reward (s)": ".2f",
    "accuracy (s)": ".2f",
    "ratio": ".1f",
    "accuracy_reward right": ".1%",
    "accuracy right": ".1%",
}
GOLDS = {
    "MATH": Path(__file__).with_name("math_answers.txt").read_text(encoding="utf-8").splitlines(),
    "integers": [str(number) for number in range(10_000)],
}
NUM_CHARACTERS = 8000
SENTENCE = "We add {} to both sides, so that $x_{} + {} = {}$ and the sum is even. "


def completion(rng: random.Random, answer: str) -> str:
    """Reasoning that ends in a form both can read."""
    end = f"\n\nAnswer: $\\boxed{{{answer}}}$"
    body = ""
    while len(body) < NUM_CHARACTERS:
        body += SENTENCE.format(*(rng.randint(0, 99) for _ in range(4)))
    return body[: NUM_CHARACTERS - len(end)] + end


def timed(function: Callable[..., list[float | None]], *args, **kwargs) -> tuple[list[bool], float]:
    """Verdicts and seconds."""
    start = time.perf_counter()
    rewards = function(*args, **kwargs)
    return [reward == 1.0 for reward in rewards], time.perf_counter() - start


def compare(kind: str, num_rows: int) -> dict[str, Any]:
    """One row of the table."""
    rng = random.Random(0)
    golds = rng.sample(GOLDS[kind], num_rows)
    is_right = [rng.random() < 0.5 for _ in golds]
    answers = [
        gold if right else rng.choice([other for other in GOLDS[kind] if other != gold])
        for gold, right in zip(golds, is_right, strict=True)
    ]
    completions = [[{"role": "assistant", "content": completion(rng, answer)}] for answer in answers]
    accuracy(completions=[r"\boxed{x+1}"], solution=["1+x"])  # starts its processes, once in a run
    accuracy_reward([[{"content": r"\boxed{x+1}"}]], ["$1+x$"])
    ours, our_seconds = timed(accuracy, completions=completions, solution=golds)
    theirs, their_seconds = timed(accuracy_reward, completions, [f"${gold}$" for gold in golds])

    def frac_right(verdicts: list[bool]) -> float:
        return sum(one == other for one, other in zip(verdicts, is_right, strict=True)) / num_rows

    return {
        "answers": kind,
        "completions": num_rows,
        "cores": os.cpu_count(),
        "accuracy_reward (s)": their_seconds,
        "accuracy (s)": our_seconds,
        "ratio": their_seconds / our_seconds,
        "accuracy_reward right": frac_right(theirs),
        "accuracy right": frac_right(ours),
        "command": f"python -m benchmarks.rewards.speed --answers {kind} --completions {num_rows}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--answers", nargs="+", choices=GOLDS, default=list(GOLDS))
    parser.add_argument("--completions", type=int, default=3000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = [compare(kind, arguments.completions) for kind in arguments.answers]
    show(SETTINGS | MEASURED, rows)
    record("rewards_speed", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
