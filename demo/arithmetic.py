"""The demo's task: two-digit sums, worked digit by digit, with a last line `Answer: N`."""

import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path


ANSWER_LINE = re.compile(r"Answer: (\d+)")


@dataclass(frozen=True)
class Sum:
    """One problem, `first + second`, both with two digits."""

    first: int
    second: int

    @property
    def problem(self) -> str:
        return f"{self.first}+{self.second}=?"

    @property
    def answer(self) -> str:
        return str(self.first + self.second)


def work_out(item: Sum, rng: random.Random, slip_rate: float = 0.0) -> str:
    """
    The worked text: units, tens (with the carry if there is one), answer.

    Args:
        item (`Sum`): the problem.
        rng (`random.Random`): decides where a slip happens and what is written there.
        slip_rate (`float`):
            Probability of a slip in each of the three lines. What follows a slip continues from the wrong number, so a
            text is right with a probability of about `(1 - slip_rate) ** 3`.

    Returns:
        `str`: for 47 + 25 without a slip, the lines `7+5=12`, `4+2+1=7` and `Answer: 72`.
    """

    def slip(number: int, smallest: int, largest: int) -> int:
        return rng.randint(smallest, largest) if rng.random() < slip_rate else number

    first_tens, first_units = divmod(item.first, 10)
    second_tens, second_units = divmod(item.second, 10)
    units = slip(first_units + second_units, 0, 18)
    carry = units // 10
    tens = slip(first_tens + second_tens + carry, 2, 19)
    answer = slip(10 * tens + units % 10, 20, 198)
    carry_term = "+1" if carry else ""
    return f"{first_units}+{second_units}={units}\n{first_tens}+{second_tens}{carry_term}={tens}\nAnswer: {answer}"


def is_right(completion: str, answer: str) -> bool:
    """Whether the last line of `completion` is exactly `Answer: <answer>`; stricter than the reward that trains."""
    match = ANSWER_LINE.fullmatch(completion.rpartition("\n")[2])
    return match is not None and match[1] == answer


def split_sums(seed: int, num_held_out: int = 512) -> tuple[list[Sum], list[Sum]]:
    """
    All 8100 sums of two two-digit numbers, in random order.

    Returns:
        `tuple[list[Sum], list[Sum]]`: training and held-out problems; no problem is in both.
    """
    sums = [Sum(first, second) for first, second in product(range(10, 100), repeat=2)]
    random.Random(seed).shuffle(sums)
    return sums[num_held_out:], sums[:num_held_out]


def write_jsonl(sums: Iterable[Sum], path: Path) -> None:
    """Writes one JSON object per line, with the columns `problem` and `answer`."""
    lines = [json.dumps({"problem": item.problem, "answer": item.answer}) + "\n" for item in sums]
    path.write_text("".join(lines), encoding="utf-8")
