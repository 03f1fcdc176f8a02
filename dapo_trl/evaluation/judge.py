"""Verdicts on completions, as arrays over problems and samples."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.records import Record, batches
from ..rewards import AccuracyReward
from ..rewards.outcome import Reason
from .votes import answer_classes


logger = logging.getLogger(__name__)

# Bounds the memory: texts that are held at a time.
_ROWS_AT_A_TIME = 1000


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
    reasons: Counter = field(default_factory=Counter)

    @classmethod
    def empty(cls, num_problems: int, k: int) -> "Verdicts":
        """Without any verdict yet."""
        shape = (num_problems, k)
        return cls(
            correct=np.zeros(shape, dtype=bool),
            num_tokens=np.zeros(shape, dtype=int),
            is_truncated=np.zeros(shape, dtype=bool),
            is_scorable=np.ones(num_problems, dtype=bool),
            answers=[[""] * k for _ in range(num_problems)],
        )


def judge(rows: Iterable[dict[str, Any]], records: Sequence[Record], k: int, reward: AccuracyReward) -> Verdicts:
    """
    Judges completions.

    A sample that the verifier failed on counts as wrong, as one that it could not decide in time does; both are
    counted in `reasons`. A problem whose gold cannot be read is marked, to be left out.

    Args:
        rows (iterable of `dict`): as [`CompletionsFile.rows`] gives them; samples of other problems, and those beyond
            k, are passed over.
        records (`list[Record]` of length P): the problems.
        k (`int`): samples per problem.
        reward ([`AccuracyReward`]): judges.

    Returns:
        [`Verdicts`]

    Raises:
        ValueError: if samples are missing.
        RuntimeError: if the verifier fails too often.
    """
    verdicts = Verdicts.empty(len(records), k)
    position = {record.id: number for number, record in enumerate(records)}
    missing = {(number, sample) for number in range(len(records)) for sample in range(k)}
    wanted = (row for row in rows if row["problem"] in position and row["sample"] < k)
    for batch in batches(wanted, _ROWS_AT_A_TIME):
        places = [(position[row["problem"]], row["sample"]) for row in batch]
        _judge_batch(batch, places, [records[problem].solution for problem, _ in places], reward, verdicts)
        missing.difference_update(places)
    if missing:
        raise ValueError(f"{len(missing)} of {len(records) * k} samples are missing, such as {min(missing)}.")
    _warn(verdicts, records)
    return verdicts


def _judge_batch(
    rows: list[dict[str, Any]],
    places: list[tuple[int, int]],
    golds: list[str],
    reward: AccuracyReward,
    verdicts: Verdicts,
) -> None:
    columns: dict[str, list] = {}
    values = reward([row["completion"] for row in rows], solution=golds, log_extra=columns.__setitem__)
    verdicts.reasons.update(columns["verdict"])
    for row, place, value, answer, reason in zip(
        rows, places, values, columns["answer"], columns["verdict"], strict=True
    ):
        problem, sample = place
        verdicts.correct[place] = value == reward.correct
        verdicts.num_tokens[place] = row["num_tokens"]
        verdicts.is_truncated[place] = row["is_truncated"]
        verdicts.answers[problem][sample] = answer
        verdicts.is_scorable[problem] &= reason != Reason.GOLD_UNREADABLE


def vote_classes(verdicts: Verdicts, reward: AccuracyReward) -> np.ndarray:
    """Classes of equal answers, of shape `(P, K)`; see [`answer_classes`]."""
    return answer_classes(verdicts.answers, verdicts.correct, reward.verifier)


def _warn(verdicts: Verdicts, records: Sequence[Record]) -> None:
    if num_errors := verdicts.reasons[Reason.ERROR]:
        logger.warning("The verifier failed on %d samples, which count as wrong.", num_errors)
    if not verdicts.is_scorable.all():
        golds = [record.solution for record, ok in zip(records, verdicts.is_scorable, strict=True) if not ok]
        logger.warning("%d problems are left out: their golds cannot be read, such as %r.", len(golds), golds[0])
