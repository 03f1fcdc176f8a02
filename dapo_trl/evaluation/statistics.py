r"""
avg@k, maj@k and pass@j with intervals over problems, as pure functions on arrays.

Every measure is first a value per problem, then a mean over problems. An interval says how far the mean would move
with other problems of the same kind: problems are what is drawn again, not their samples.

Axes: P problems, K samples per problem.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
NO_ANSWER = -1
"""Class of a sample that states no answer."""

# Bounds the memory of a bootstrap: rows of `P` numbers that exist at a time.
_RESAMPLES_AT_A_TIME = 1000


@dataclass(frozen=True)
class Estimate:
    """
    A mean over problems with its 95% interval.

    Attributes:
        mean (`float`): the mean.
        low, high (`float`): ends of the interval; NaN if the problems show no spread, see [`estimate`].
    """

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: `None` for NaN."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


def average_at_k(correct: np.ndarray) -> np.ndarray:
    """
    Share of right samples per problem, the pass rate.

    Args:
        correct (`np.ndarray` of shape `(P, K)`): 1 or true where a sample is right, 0 or false where it is not.

    Returns:
        `np.ndarray` of shape `(P,)`.

    Raises:
        ValueError: if `correct` is empty, not two-dimensional, or holds anything else than 0 and 1.
    """
    return _checked(correct).mean(axis=1)


def majority_at_k(correct: np.ndarray, classes: np.ndarray) -> np.ndarray:
    r"""
    Is the most frequent answer of a problem right? (Self-consistency, https://huggingface.co/papers/2203.11171.)

    Samples without an answer have no vote. Of several equally frequent answers each is as likely to be taken, so that
    the value is an expectation and not an accident of order: two answers with equal votes, one of them right, count
    0.5. Without any answer the value is 0.

    Args:
        correct (`np.ndarray` of shape `(P, K)`): whether each sample is right.
        classes (`np.ndarray` of shape `(P, K)`, integers):
            Samples of a problem with equal answers have equal numbers; [`NO_ANSWER`] for a sample without one. See
            [`~dapo_trl.evaluation.votes.answer_classes`].

    Returns:
        `np.ndarray` of shape `(P,)`.

    Raises:
        ValueError: if the shapes differ, or `correct` is not as for [`average_at_k`].
    """
    correct, classes = _checked(correct), np.asarray(classes)
    if classes.shape != correct.shape:
        raise ValueError(f"classes has shape {classes.shape}, but it must be that of correct, {correct.shape}.")
    return np.array([_majority(*problem) for problem in zip(correct, classes, strict=True)])


def _majority(correct: np.ndarray, classes: np.ndarray) -> float:
    has_vote = classes != NO_ANSWER
    if not has_vote.any():
        return 0.0
    _, members, votes = np.unique(classes[has_vote], return_inverse=True, return_counts=True)
    frac_right = np.bincount(members, weights=correct[has_vote]) / votes
    return float(frac_right[votes == votes.max()].mean())


def pass_at_j(correct: np.ndarray, j: int) -> np.ndarray:
    r"""
    Probability that at least one of `j` samples is right: the unbiased estimator of
    https://huggingface.co/papers/2107.03374, Eq. 1.

    $$ 1 - \binom{K - c}{j} / \binom{K}{j} $$

    with \( c \) right samples among \( K \): `j` samples drawn without replacement contain none of the right ones.

    Args:
        correct (`np.ndarray` of shape `(P, K)`): whether each sample is right.
        j (`int`): number of samples, from 1 to K.

    Returns:
        `np.ndarray` of shape `(P,)`.

    Raises:
        ValueError: if `j` is out of range, or `correct` is not as for [`average_at_k`].
    """
    correct = _checked(correct)
    num_samples = correct.shape[1]
    if not 1 <= j <= num_samples:
        raise ValueError(f"j={j} must be from 1 to the number of samples per problem, {num_samples}.")
    return stats.hypergeom.sf(0, num_samples, correct.sum(axis=1).astype(int), j)


def pass_sizes(k: int) -> list[int]:
    """
    The j for which pass@j is reported: powers of two up to k, and k.

    >>> pass_sizes(12)
    [1, 2, 4, 8, 12]
    """
    return sorted({2**power for power in range(k.bit_length()) if 2**power <= k} | {k})


def measures(correct: np.ndarray, classes: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """
    All measures by name, such as `avg@32`, `maj@32`, `pass@1`, ..., `pass@32`: one value per problem each.

    Args:
        correct (`np.ndarray` of shape `(P, K)`): whether each sample is right.
        classes (`np.ndarray` of shape `(P, K)`, *optional*): as for [`majority_at_k`]; without it there is no maj@k.

    Returns:
        `dict[str, np.ndarray]`: arrays of shape `(P,)`, for [`estimate`].
    """
    k = _checked(correct).shape[1]
    values = {f"avg@{k}": average_at_k(correct)}
    if classes is not None:
        values[f"maj@{k}"] = majority_at_k(correct, classes)
    return values | {f"pass@{j}": pass_at_j(correct, j) for j in pass_sizes(k)}


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """
    Mean over problems with a 95% bootstrap interval (percentiles of the means of 10,000 resamples of the problems).

    There is no interval for a single problem, nor if all problems have the same value (none solved, say): each
    resample then has the same mean, and an interval without width would claim certainty from problems that say nothing
    about how much others differ.

    Args:
        values (`np.ndarray` of shape `(P,)`): one value per problem.
        seed (`int`, *optional*, defaults to 0): of the resampling; equal seeds resample the same problems.

    Returns:
        [`Estimate`], with NaN for the ends of an interval that there is not.

    Raises:
        ValueError: if there are no values, or they are not one-dimensional.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"values has shape {values.shape}, but it must be (P,), one value per problem, and P >= 1.")
    if np.ptp(values) == 0:
        return Estimate(float(values[0]), math.nan, math.nan)
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=_RESAMPLES_AT_A_TIME,
        confidence_level=CONFIDENCE,
        method="percentile",  # defined also where all values but one are equal, unlike the corrected methods
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high))


def estimate_share(values: np.ndarray) -> Estimate:
    r"""
    Mean over problems of shares in [0, 1], with a 95% Clopper-Pearson interval of the effective number of problems.

    Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data": the problems are the clusters, and the interval is that of \( n = m (1 - m) / s^2 \)
    independent answers, where \( m \) is the mean and \( s \) its standard error, reduced for the degrees of freedom
    that the problems leave. If all problems have the same value, every problem counts as one answer.

    Where nearly all problems are solved, or nearly none, it holds the truth more often than the bootstrap does
    (`python -m benchmarks.evaluation.coverage`).

    Args:
        values (`np.ndarray` of shape `(P,)`): one share per problem.

    Returns:
        [`Estimate`], with NaN for the ends of the interval of a single problem.

    Raises:
        ValueError: if there are no values, they are not one-dimensional, or out of [0, 1].
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or values.min() < 0 or values.max() > 1:
        raise ValueError(f"values must be shares in [0, 1], one per problem, but they are {values!r}.")
    size, mean = values.size, float(values.mean())
    if size == 1:
        return Estimate(mean, math.nan, math.nan)
    variance = values.var(ddof=1) / size if np.ptp(values) else 0.0
    tail = (1 - CONFIDENCE) / 2
    num_answers = mean * (1 - mean) / variance if variance else size
    num_answers *= (stats.norm.ppf(tail) / stats.t.ppf(tail, size - 1)) ** 2
    right, wrong = mean * num_answers, (1 - mean) * num_answers
    low = stats.beta.ppf(tail, right, wrong + 1) if right > 0 else 0.0
    high = stats.beta.ppf(1 - tail, right + 1, wrong) if wrong > 0 else 1.0
    return Estimate(mean, float(low), float(high))


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """
    Mean of `second - first` over the same problems, with a 95% bootstrap interval of the pairs.

    Much narrower than two intervals side by side, because what makes a problem hard is the same for both.

    Args:
        first, second (`np.ndarray` of shape `(P,)`): values of two models, problem by problem.
        seed (`int`, *optional*, defaults to 0): of the resampling.

    Returns:
        [`Estimate`]: positive if `second` is better.

    Raises:
        ValueError: if the shapes differ, or there is no problem.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"The values to compare have shapes {first.shape} and {second.shape}: not the same problems.")
    return estimate(second - first, seed)


def _checked(correct: np.ndarray) -> np.ndarray:
    correct = np.asarray(correct, dtype=float)
    if correct.ndim != 2 or not correct.size:
        raise ValueError(f"correct has shape {correct.shape}, but it must be (P, K) with P, K >= 1.")
    if not np.isin(correct, (0.0, 1.0)).all():
        value = correct[~np.isin(correct, (0.0, 1.0))][0]
        raise ValueError(
            f"correct holds {value}, but it must be 1 (right) or 0 (wrong). Leave out problems that cannot be scored."
        )
    return correct
