"""
MATH-500 golds as answers: every gold must be right for itself, and wrong for the next problem.

    python benchmarks/rewards/math500.py math500.jsonl
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from dapo_trl.rewards.verifier import Verifier


def main(path: str) -> None:
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    golds = [row["answer"] for row in rows]
    next_golds = golds[1:] + golds[:1]
    for style in ("Answer: {}", "\\boxed{{{}}}"):
        completions = ["Therefore\n" + style.format(gold) for gold in golds]
        report(style + ", own gold", completions, golds, is_correct=True)
        report(style + ", next gold", completions, next_golds, is_correct=False)


def report(title: str, completions: list[str], golds: list[str], is_correct: bool) -> None:
    start = time.perf_counter()
    outcomes = Verifier()(completions, golds)
    seconds = time.perf_counter() - start
    agreed = sum(outcome.is_correct is is_correct for outcome in outcomes)
    reasons = dict(Counter(outcome.reason.value for outcome in outcomes))
    print(f"{title}: {agreed} of {len(golds)} are {is_correct}; {reasons}; {seconds:.1f} s")
    for outcome, gold in zip(outcomes, golds, strict=True):
        if outcome.is_correct is not is_correct:
            print(f"    {outcome.answer!r} against {gold!r}: {outcome.is_correct} ({outcome.reason}) {outcome.detail}")


if __name__ == "__main__":
    main(sys.argv[1])
