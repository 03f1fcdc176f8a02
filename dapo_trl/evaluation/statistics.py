r"""
avg@k, maj@k and pass@j with intervals over problems, as pure functions on arrays.

Every measure is first a value per problem, then a mean over problems. An interval says where the mean over all
problems of the same kind may be, of which those at hand are a sample: problems vary, not only their samples.

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
        low, high (`float`): ends of the interval; NaN if there is none, see [`estimate`] and [`paired_difference`].
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


def estimate(values: np.ndarray) -> Estimate:
    r"""
    Mean over problems with a 95% interval: Clopper and Pearson's, with the effective number of problems.

    $$ n = \frac{P}{D} \left( \frac{z}{t} \right)^2, \qquad
    D = \frac{\frac{P}{P - 1} \sum_i (v_i - m)^2 + \frac14}{P m (1 - m) + \frac14} $$

    with the values \( v_i \) in [0, 1], their mean \( m \), and the 97.5% quantiles \( z \) of the normal and \( t \)
    of Student's distribution with \( P - 1 \) degrees of freedom; the interval is that of \( n m \) successes in
    \( n \) trials. The design effect \( D \) compares the variance of the values with that of values that are all or
    nothing: \( P / D \) such values would say as much. The quarters are a further problem that is all or nothing:
    where those at hand hardly differ, such as if none is solved, they do not tell the variance, and D tends to 1. So
    there is an interval also if all values are equal, and it holds the truth also near 0 and 1, where a bootstrap's is
    too narrow (`benchmarks/README.md` has the coverage of both).

    Without the quarters it is the interval of Korn and Graubard (1998), "Confidence intervals for proportions with
    small expected number of positive counts estimated from survey data".

    Args:
        values (`np.ndarray` of shape `(P,)`): one value in [0, 1] per problem.

    Returns:
        [`Estimate`], with NaN for the ends of the interval if there is a single problem.

    Raises:
        ValueError: if there are no values, they are not one-dimensional, or not in [0, 1].
    """
    values = _checked_values(values)
    is_inside = (values >= 0) & (values <= 1)
    if not is_inside.all():
        raise ValueError(
            f"values holds {values[~is_inside][0]}, but each must be in [0, 1]. Leave out problems that cannot be "
            "scored."
        )
    num_problems, mean = len(values), min(float(values.mean()), 1.0)
    if num_problems == 1:
        return Estimate(mean, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    design_effect = (num_problems * values.var(ddof=1) + 0.25) / (num_problems * mean * (1 - mean) + 0.25)
    size = num_problems / design_effect * (stats.norm.ppf(tail) / stats.t.ppf(tail, num_problems - 1)) ** 2
    low = stats.beta.ppf(tail, size * mean, size * (1 - mean) + 1) if mean > 0 else 0.0
    high = stats.beta.isf(tail, size * mean + 1, size * (1 - mean)) if mean < 1 else 1.0
    return Estimate(mean, float(low), float(high))


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """
    Mean of `second - first` over the same problems, with a 95% bootstrap interval of the pairs: percentiles of the
    means of 10,000 resamples of the problems.

    Much narrower than two intervals side by side, because what makes a problem hard is the same for both. Of two equal
    models about 6 of 100 comparisons have an interval without zero.

    There is no interval for a single problem, nor if all problems have the same difference (none, say): each resample
    then has the same mean, and an interval without width would claim certainty.

    Args:
        first, second (`np.ndarray` of shape `(P,)`): values of two models, problem by problem.
        seed (`int`, *optional*, defaults to 0): of the resampling; equal seeds resample the same problems.

    Returns:
        [`Estimate`]: positive if `second` is better, with NaN for the ends of an interval that there is not.

    Raises:
        ValueError: if the shapes differ, or there is no problem.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"The values to compare have shapes {first.shape} and {second.shape}: not the same problems.")
    differences = _checked_values(second - first)
    if np.ptp(differences) == 0:
        return Estimate(float(differences[0]), math.nan, math.nan)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=_RESAMPLES_AT_A_TIME,
        confidence_level=CONFIDENCE,
        method="percentile",  # defined also where all values but one are equal, unlike the corrected methods
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(differences.mean()), float(interval.low), float(interval.high))


def _checked_values(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"values has shape {values.shape}, but it must be (P,), one value per problem, and P >= 1.")
    return values


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
