"""From completions to verdicts, and from verdicts to the measures, lengths and problems of a summary."""

import logging
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ..data.records import Record, batches
from ..data.tokens import length_statistics
from ..rewards import AccuracyReward
from ..rewards.outcome import Reason
from ..rewards.verifier import Verifier
from .statistics import CONFIDENCE, NO_ANSWER, estimate, majority_at_k, measures


logger = logging.getLogger(__name__)

INTERVAL_METHOD = "clopper-pearson, effective number of problems"
_ROWS_AT_A_TIME = 1000  # texts that are held in memory
_COLUMNS = ["problem", "sample", "num_tokens", "is_truncated", "correct", "answer", "verdict"]
_RIGHT = 0
"""Class of the right answers: whatever equals the reference answer is equal to each other."""


def judge(rows: Iterable[dict[str, Any]], records: Sequence[Record], k: int, reward: AccuracyReward) -> pd.DataFrame:
    """
    Judges k completions of P problems: P * k rows, in the order of `records`, with `correct`, `answer` (empty if there
    is none) and `verdict` (a [`Reason`]) beside what `rows` hold. A failure of the verifier counts as wrong.
    """
    golds = {record.id: record.solution for record in records}
    judged: list[dict[str, Any]] = []
    wanted = (row for row in rows if row["problem"] in golds and row["sample"] < k)
    for batch in batches(wanted, _ROWS_AT_A_TIME):
        columns: dict[str, list] = {}
        solutions = [golds[row["problem"]] for row in batch]
        values = reward([row.pop("completion") for row in batch], solution=solutions, log_extra=columns.__setitem__)
        correct = [value == reward.correct for value in values]
        for row, *found in zip(batch, correct, columns["answer"], columns["verdict"], strict=True):
            judged.append(row | dict(zip(("correct", "answer", "verdict"), found, strict=True)))
    verdicts = pd.DataFrame(judged, columns=_COLUMNS).set_index(["problem", "sample"])
    expected = pd.MultiIndex.from_product([list(golds), range(k)])
    missing = expected[~expected.isin(verdicts.index)]
    if len(missing):
        raise ValueError(f"{len(missing)} of {len(expected)} samples are missing, such as {missing[0]}.")
    if num_errors := (verdicts["verdict"] == Reason.ERROR).sum():
        logger.warning("The verifier failed on %d samples, which count as wrong.", num_errors)
    return verdicts.loc[expected]


def answer_classes(answers: Sequence[Sequence[str]], correct: np.ndarray, verifier: Verifier) -> np.ndarray:
    """
    Numbers the different answers of P problems with K samples, `(P, K)`, for [`majority_at_k`]; right ones are one
    class, wrong ones are compared only where that can change the vote.
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


def results(records: Sequence[Record], verdicts: pd.DataFrame, verifier: Verifier) -> dict[str, Any]:
    """The part of a summary that is computed from what [`judge`] returns; a ValueError if no reference can be read."""
    arrays = {name: verdicts[name].to_numpy().reshape(len(records), -1) for name in verdicts}  # of shape (P, K)
    kept = (arrays["verdict"] != Reason.GOLD_UNREADABLE).all(axis=1)
    unreadable = [record.solution for record, is_kept in zip(records, kept, strict=True) if not is_kept]
    if not kept.any():
        raise ValueError(
            f"None of the {len(records)} reference answers can be read, such as {unreadable[0]!r}. Name the column "
            "with the answers by --solution_column."
        )
    if unreadable:
        logger.warning(
            "%d problems are left out: their reference answers cannot be read, such as %r.",
            *(len(unreadable), unreadable[0]),
        )
    correct, answers = arrays["correct"].astype(bool), arrays["answer"].tolist()
    classes = answer_classes(answers, correct, verifier)
    majority = majority_at_k(correct, classes)
    values = measures(correct[kept], classes[kept])
    return {
        "interval": {"confidence": CONFIDENCE, "method": INTERVAL_METHOD},
        "measures": {name: estimate(value).as_dict() for name, value in values.items()},
        "lengths": _lengths(verdicts[np.repeat(kept, correct.shape[1])]),
        "verifier": {reason.value: int((verdicts["verdict"] == reason).sum()) for reason in Reason},
        "problems": [
            {
                "id": record.id,
                "problem": record.problem,
                "gold": record.solution,
                "is_scorable": bool(kept[row]),
                "correct": correct[row].astype(int).tolist(),
                "answers": answers[row],
                "pass_rate": float(correct[row].mean()) if kept[row] else None,
                "majority": float(majority[row]) if kept[row] else None,
                "mean_tokens": float(arrays["num_tokens"][row].mean()),
                "num_truncated": int(arrays["is_truncated"][row].sum()),
            }
            for row, record in enumerate(records)
        ],
    }


def _lengths(verdicts: pd.DataFrame) -> dict[str, float | int | None]:
    correct = verdicts["correct"].astype(bool)
    means = {
        "mean": verdicts["num_tokens"],
        "mean_correct": verdicts["num_tokens"][correct],
        "mean_wrong": verdicts["num_tokens"][~correct],
        "frac_truncated": verdicts["is_truncated"],
        "frac_truncated_wrong": verdicts["is_truncated"][~correct],
    }
    return {
        **length_statistics(verdicts["num_tokens"].tolist()),
        **{name: float(values.mean()) if len(values) else None for name, values in means.items()},
    }
