"""Which samples of a problem state the same answer, for the vote of maj@k."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..rewards.verifier import Verifier
from .statistics import NO_ANSWER


_RIGHT = 0
"""Class of the right answers: whatever is equal to the gold is equal to each other."""


def answer_classes(answers: Sequence[Sequence[str | None]], correct: np.ndarray, verifier: Verifier) -> np.ndarray:
    """
    Numbers the different answers of every problem, as [`~dapo_trl.evaluation.statistics.majority_at_k`] needs them.

    Right answers are one class. Wrong answers written differently are compared with one another, as with a gold; but
    only where that can change the vote: not if no sample is right, nor if the right ones are more than half.

    Args:
        answers (`list[list[str | None]]`, P problems of K samples): final answers; none is `None` or empty.
        correct (`np.ndarray` of shape `(P, K)`): whether each sample is right.
        verifier ([`Verifier`]): compares answers.

    Returns:
        `np.ndarray` of shape `(P, K)`, integers.
    """
    wrong = [
        list(dict.fromkeys(answer for answer, is_right in zip(row, marks, strict=True) if answer and not is_right))
        for row, marks in zip(answers, np.asarray(correct, dtype=bool), strict=True)
    ]
    # All problems at once: the processes of math-verify work on many pairs at a time.
    pairs = {
        problem: list(combinations(wrong[problem], 2))
        for problem, row in enumerate(answers)
        if _is_open(row, correct[problem])
    }
    verdicts = iter(verifier.are_equal([pair for problem in pairs.values() for pair in problem]))
    equal = {problem: [pair for pair in of_problem if next(verdicts)] for problem, of_problem in pairs.items()}
    return np.array(
        [
            _number(row, marks, _merge(wrong[problem], equal.get(problem, [])))
            for problem, (row, marks) in enumerate(zip(answers, correct, strict=True))
        ]
    )


def _is_open(answers: Sequence[str | None], correct: np.ndarray) -> bool:
    """Whether merging wrong answers could change which answer is the most frequent."""
    num_votes = sum(bool(answer) for answer in answers)
    num_right = sum(bool(answer) and bool(is_right) for answer, is_right in zip(answers, correct, strict=True))
    return 0 < num_right <= num_votes / 2


def _merge(answers: list[str], equal: list[tuple[str, str]]) -> dict[str, int]:
    """A class for every answer: answers that equal pairs connect share one."""
    classes = {answer: number for number, answer in enumerate(answers, start=_RIGHT + 1)}
    for first, second in equal:
        old, new = classes[second], classes[first]
        classes = {answer: new if number == old else number for answer, number in classes.items()}
    return classes


def _number(answers: Sequence[str | None], correct: np.ndarray, wrong: dict[str, int]) -> list[int]:
    return [
        NO_ANSWER if not answer else _RIGHT if is_right else wrong[answer]
        for answer, is_right in zip(answers, correct, strict=True)
    ]
