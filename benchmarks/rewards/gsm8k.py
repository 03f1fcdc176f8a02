"""
GSM8K answers in eight styles: the right number must be right, a wrong one wrong.

    python benchmarks/rewards/gsm8k.py gsm8k_train.jsonl gsm8k_test.jsonl
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from dapo_trl.rewards.verifier import Verifier


STYLES = (
    "Adding up.\nAnswer: {}",
    "Adding up.\n**Answer:** ${}$.",
    "So the total is \\boxed{{{}}}.",
    "Adding up.\n\n**Final Answer**: \\(\\boxed{{{}}}\\)",
    "Adding up.\nAnswer: **x = {}**",
    "Adding up.\nAnswer: {} dollars",
    "Answer: There are {} of them.\nI hope this helps.",
    "First 2 + 2 = 4.\nThe answer is {}.",
)


def main(paths: list[str]) -> None:
    rows = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    golds = [row["answer"].rsplit("####", 1)[-1].strip() for row in rows]
    verifier = Verifier()
    for style in STYLES:
        start = time.perf_counter()
        right = verifier([style.format(gold) for gold in golds], golds)
        wrong = verifier([style.format(off_by_one(gold)) for gold in golds], golds)
        seconds = time.perf_counter() - start
        num_right = sum(outcome.is_correct is True for outcome in right)
        num_wrong = sum(outcome.is_correct is False for outcome in wrong)
        reasons = dict(Counter(outcome.reason.value for outcome in right + wrong))
        print(
            f"{style!r}: {num_right} of {len(golds)} right, {num_wrong} wrong ones wrong; {reasons}; {seconds:.1f} s"
        )
        for outcome, gold in [pair for pair in zip(right, golds, strict=True) if pair[0].is_correct is not True][:5]:
            print(f"    {outcome.answer!r} against {gold!r}: {outcome.is_correct} ({outcome.reason})")
        for outcome, gold in [pair for pair in zip(wrong, golds, strict=True) if pair[0].is_correct is not False][:5]:
            print(f"    wrong: {outcome.answer!r} against {gold!r}: {outcome.is_correct} ({outcome.reason})")


def off_by_one(gold: str) -> str:
    """The gold plus one, with thousands separators as in the gold."""
    value = float(gold.replace(",", "")) + 1
    number = int(value) if value.is_integer() else value
    return f"{number:,}" if "," in gold else str(number)


if __name__ == "__main__":
    main(sys.argv[1:])
