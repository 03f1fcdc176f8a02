"""
avg@k, maj@k and pass@j of P problems with K samples each: a value per problem, then a mean over problems.

An interval says where the mean over all problems of the same kind may be, of which those at hand are a sample:
problems vary, not only their samples.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


CONFIDENCE = 0.95
NO_ANSWER = -1
"""Class of a sample that states no answer."""


@dataclass(frozen=True)
class Estimate:
    """A mean over problems, and the ends of its 95% interval; NaN where there is no interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: `None` for NaN."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def average_at_k(correct: npt.ArrayLike) -> np.ndarray:
    """Share of right samples of each problem, `(P,)`, for `correct` of shape `(P, K)`: 1 where a sample is right."""
    return np.asarray(correct, dtype=float).mean(axis=1)


def majority_at_k(correct: npt.ArrayLike, classes: npt.ArrayLike) -> np.ndarray:
    """
    Is the most frequent answer right (self-consistency, https://huggingface.co/papers/2203.11171)? Of shape `(P,)`,
    for `classes` of shape `(P, K)` with equal numbers for equal answers of a problem, [`NO_ANSWER`] for samples
    without one, which have no vote. Ties count by share: two answers with equal votes, one of them right, 0.5.
    """
    problems = zip(np.asarray(correct, dtype=float), np.asarray(classes), strict=True)
    return np.array([_majority(*problem) for problem in problems])


def _majority(correct: np.ndarray, classes: np.ndarray) -> float:
    has_vote = classes != NO_ANSWER
    if not has_vote.any():
        return 0.0
    _, members, votes = np.unique(classes[has_vote], return_inverse=True, return_counts=True)
    frac_right = np.bincount(members, weights=correct[has_vote]) / votes
    return float(frac_right[votes == votes.max()].mean())


def pass_at_j(correct: npt.ArrayLike, j: int) -> np.ndarray:
    r"""
    Probability that at least one of `j` samples is right, of shape `(P,)`: the unbiased estimator of
    https://huggingface.co/papers/2107.03374, Eq. 1, \( 1 - \binom{K - c}{j} / \binom{K}{j} \) with \( c \) right
    samples among \( K \).
    """
    correct = np.asarray(correct, dtype=int)
    return stats.hypergeom.sf(0, correct.shape[1], correct.sum(axis=1), j)


def measures(correct: npt.ArrayLike, classes: npt.ArrayLike | None = None) -> dict[str, np.ndarray]:
    """Values of shape `(P,)` by name: avg@k, maj@k (if there are `classes`), pass@j for powers of two and for k."""
    k = np.shape(correct)[1]
    values = {f"avg@{k}": average_at_k(correct)}
    if classes is not None:
        values[f"maj@{k}"] = majority_at_k(correct, classes)
    sizes = sorted({2**power for power in range(k.bit_length())} | {k})
    return values | {f"pass@{j}": pass_at_j(correct, j) for j in sizes}


def estimate(values: npt.ArrayLike) -> Estimate:
    r"""
    Mean over P values in [0, 1] with a 95% interval: Clopper and Pearson's, with the effective number of problems.

    $$ n = \frac{P}{D} \left( \frac{z}{t} \right)^2, \qquad
    D = \frac{\frac{P}{P - 1} \sum_i (v_i - m)^2 + \frac14}{P m (1 - m) + \frac14} $$

    with the mean \( m \) and the 97.5% quantiles \( z \) of the normal and \( t \) of Student's distribution (P - 1
    degrees of freedom); the interval is that of \( nm \) successes in \( n \) trials. The design effect \( D \)
    compares the variance of the values with that of values that are all or nothing. The quarters are a further problem
    of that kind, so that there is an interval also if all values are equal; without them it is that of Korn and
    Graubard (1998). `benchmarks/README.md` has its coverage, beside a bootstrap's. A single problem has none.
    """
    values = np.asarray(values, dtype=float)
    num_problems, mean = len(values), min(float(values.mean()), 1.0)
    if num_problems == 1:
        return Estimate(mean, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    design_effect = (num_problems * values.var(ddof=1) + 0.25) / (num_problems * mean * (1 - mean) + 0.25)
    size = num_problems / design_effect * (stats.norm.ppf(tail) / stats.t.ppf(tail, num_problems - 1)) ** 2
    low = stats.beta.ppf(tail, size * mean, size * (1 - mean) + 1) if mean > 0 else 0.0
    high = stats.beta.isf(tail, size * mean + 1, size * (1 - mean)) if mean < 1 else 1.0
    return Estimate(mean, float(low), float(high))


def paired_difference(first: npt.ArrayLike, second: npt.ArrayLike) -> Estimate:
    """
    Mean of `second - first` over the same problems, with the percentile interval of 10,000 bootstrap resamples. It is
    much narrower than two intervals side by side, because hard problems are hard for both. There is none if all
    problems have the same difference: an interval without width would claim certainty.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    if np.ptp(differences) == 0:
        return Estimate(float(differences[0]), math.nan, math.nan)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=10_000,
        batch=1000,  # bounds the memory
        confidence_level=CONFIDENCE,
        method="percentile",  # defined also where all values but one are equal, unlike the corrected methods
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(float(differences.mean()), float(interval.low), float(interval.high))
