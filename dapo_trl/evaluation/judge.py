"""From completions to verdicts, and from verdicts to the measures, lengths and problems of a summary."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..data.batches import batches
from ..data.records import Record
from ..data.tokens import length_statistics
from ..rewards import AccuracyReward
from ..rewards.outcome import Reason
from ..rewards.verifier import Verifier
from .statistics import CONFIDENCE, NO_ANSWER, estimate, majority_at_k, measures


logger = logging.getLogger(__name__)

INTERVAL_METHOD = "clopper-pearson, effective number of problems"
_ROWS_AT_A_TIME = 1000  # texts that are held in memory
_RIGHT = 0
"""Class of the right answers: whatever is equal to the gold is equal to each other."""


@dataclass
class Verdicts:
    """
    What was found in the completions of P problems, K samples each.

    Attributes:
        correct (`np.ndarray` of shape `(P, K)`, bool): whether the sample is right.
        num_tokens (`np.ndarray` of shape `(P, K)`, int): lengths in tokens.
        is_truncated (`np.ndarray` of shape `(P, K)`, bool): whether the sample was cut off.
        is_scorable (`np.ndarray` of shape `(P,)`, bool): whether the gold can be read.
        answers (`list[list[str]]`, P of K): final answers, empty where there is none.
        reasons (`Counter`): how verdicts were reached, by [`~dapo_trl.rewards.outcome.Reason`].
    """

    correct: np.ndarray
    num_tokens: np.ndarray
    is_truncated: np.ndarray
    is_scorable: np.ndarray
    answers: list[list[str]]
    reasons: Counter


def judge(rows: Iterable[dict[str, Any]], records: Sequence[Record], k: int, reward: AccuracyReward) -> Verdicts:
    """
    Judges completions.

    A sample that the verifier failed on counts as wrong, as one that it could not decide in time does; both are
    counted in `reasons`. A problem whose gold cannot be read is marked, to be left out.

    Args:
        rows (iterable of `dict`): as `CompletionsFile.rows` gives them; samples of other problems, and those beyond
            k, are passed over.
        records (`list[Record]` of length P): the problems.
        k (`int`): samples per problem.
        reward ([`AccuracyReward`]): judges.

    Raises:
        ValueError: if samples are missing.
        RuntimeError: if the verifier fails too often.
    """
    shape = (len(records), k)
    verdicts = Verdicts(
        correct=np.zeros(shape, dtype=bool),
        num_tokens=np.zeros(shape, dtype=int),
        is_truncated=np.zeros(shape, dtype=bool),
        is_scorable=np.ones(len(records), dtype=bool),
        answers=[[""] * k for _ in records],
        reasons=Counter(),
    )
    position = {record.id: number for number, record in enumerate(records)}
    missing = set(np.ndindex(shape))
    wanted = (row for row in rows if row["problem"] in position and row["sample"] < k)
    for batch in batches(wanted, _ROWS_AT_A_TIME):
        golds = [records[position[row["problem"]]].solution for row in batch]
        columns: dict[str, list] = {}
        values = reward([row["completion"] for row in batch], solution=golds, log_extra=columns.__setitem__)
        verdicts.reasons.update(columns["verdict"])
        for row, value, answer, reason in zip(batch, values, columns["answer"], columns["verdict"], strict=True):
            place = problem, sample = position[row["problem"]], row["sample"]
            verdicts.correct[place] = value == reward.correct
            verdicts.num_tokens[place] = row["num_tokens"]
            verdicts.is_truncated[place] = row["is_truncated"]
            verdicts.answers[problem][sample] = answer
            verdicts.is_scorable[problem] &= reason != Reason.GOLD_UNREADABLE
            missing.discard(place)
    if missing:
        raise ValueError(f"{len(missing)} of {len(records) * k} samples are missing, such as {min(missing)}.")
    if num_errors := verdicts.reasons[Reason.ERROR]:
        logger.warning("The verifier failed on %d samples, which count as wrong.", num_errors)
    return verdicts


def answer_classes(answers: Sequence[Sequence[str]], correct: np.ndarray, verifier: Verifier) -> np.ndarray:
    """
    Numbers the different answers of every problem, as [`~dapo_trl.evaluation.statistics.majority_at_k`] needs them.

    Right answers are one class. Wrong answers written differently are compared with one another, as with a gold; but
    only where that can change the vote: not if no sample is right, nor if the right ones are more than half.

    Args:
        answers (`list[list[str]]`, P problems of K samples): final answers, empty where there is none.
        correct (`np.ndarray` of shape `(P, K)`): whether each sample is right.
        verifier ([`Verifier`]): compares answers.

    Returns:
        `np.ndarray` of shape `(P, K)`, integers.
    """
    classes: list[dict[str, int]] = []  # of the wrong answers of each problem
    pairs: list[tuple[int, str, str]] = []
    for problem, (row, marks) in enumerate(zip(answers, correct, strict=True)):
        votes = [bool(is_right) for answer, is_right in zip(row, marks, strict=True) if answer]
        wrong = dict.fromkeys(answer for answer, is_right in zip(row, marks, strict=True) if answer and not is_right)
        classes.append({answer: number for number, answer in enumerate(wrong, start=_RIGHT + 1)})
        if 0 < sum(votes) <= len(votes) / 2:
            pairs += [(problem, *pair) for pair in combinations(wrong, 2)]
    # All problems at once: the processes of math-verify work on many pairs at a time.
    verdicts = verifier.are_equal([(first, second) for _, first, second in pairs])
    for (problem, first, second), is_equal in zip(pairs, verdicts, strict=True):
        if is_equal:
            old, new = classes[problem][second], classes[problem][first]
            classes[problem] |= {answer: new for answer, number in classes[problem].items() if number == old}
    return np.array(
        [
            [
                NO_ANSWER if not answer else _RIGHT if is_right else wrong[answer]
                for answer, is_right in zip(row, marks, strict=True)
            ]
            for row, marks, wrong in zip(answers, correct, classes, strict=True)
        ]
    )


def results(records: Sequence[Record], verdicts: Verdicts, verifier: Verifier) -> dict[str, Any]:
    """
    The part of a summary that is computed from verdicts: `interval`, `measures`, `lengths`, `verifier`, `problems`.

    Args:
        records (`list[Record]` of length P): the problems.
        verdicts ([`Verdicts`]): on K samples of each.
        verifier ([`Verifier`]): says which answers are equal, for the vote.

    Raises:
        ValueError: if no problem can be scored.
    """
    kept = verdicts.is_scorable
    unreadable = [record.solution for record, is_kept in zip(records, kept, strict=True) if not is_kept]
    if not kept.any():
        raise ValueError(
            f"None of the {len(records)} golds can be read, such as {unreadable[0]!r}. Name the column with the "
            "answers by --solution_column."
        )
    if unreadable:
        logger.warning(
            "%d problems are left out: their golds cannot be read, such as %r.", len(unreadable), unreadable[0]
        )
    classes = answer_classes(verdicts.answers, verdicts.correct, verifier)
    values = measures(verdicts.correct[kept], classes[kept])
    majority = majority_at_k(verdicts.correct, classes)
    return {
        "interval": {"confidence": CONFIDENCE, "method": INTERVAL_METHOD},
        "measures": {name: estimate(value).as_dict() for name, value in values.items()},
        "lengths": _lengths(verdicts.correct[kept], verdicts.num_tokens[kept], verdicts.is_truncated[kept]),
        "verifier": {reason.value: verdicts.reasons[reason] for reason in Reason},
        "problems": [
            {
                "id": record.id,
                "problem": record.problem,
                "gold": record.solution,
                "is_scorable": bool(kept[row]),
                "correct": verdicts.correct[row].astype(int).tolist(),
                "answers": verdicts.answers[row],
                "pass_rate": float(verdicts.correct[row].mean()) if kept[row] else None,
                "majority": float(majority[row]) if kept[row] else None,
                "mean_tokens": float(verdicts.num_tokens[row].mean()),
                "num_truncated": int(verdicts.is_truncated[row].sum()),
            }
            for row, record in enumerate(records)
        ],
    }


def _lengths(correct: np.ndarray, num_tokens: np.ndarray, is_truncated: np.ndarray) -> dict[str, float | int | None]:
    def mean(values: np.ndarray) -> float | None:
        return float(values.mean()) if values.size else None

    return {
        "mean": mean(num_tokens),
        **length_statistics(num_tokens.ravel().tolist()),
        "mean_correct": mean(num_tokens[correct]),
        "mean_wrong": mean(num_tokens[~correct]),
        "frac_truncated": mean(is_truncated),
        "frac_truncated_wrong": mean(is_truncated[~correct]),
    }
