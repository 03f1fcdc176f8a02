"""
How often the 95% interval of an evaluation holds the truth: coverage, by simulation.

    python -m benchmarks.evaluation.intervals

Models with known pass rates are evaluated again and again, each time on other problems of the same kind. The interval
of `dapo_trl.evaluation.statistics.estimate` against the percentile bootstrap.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.record import RESULTS, record, show
from dapo_trl.evaluation.statistics import CONFIDENCE, estimate


ABOUT = """\
## Intervals of evaluations

How often the 95% interval of an evaluation holds the mean over all problems of the same kind (*coverage*; 95% is what
it says). Simulated models with 32 samples per problem, whose pass rates have a beta distribution with the given mean
and a + b = 0.3 (most problems always or never solved), 1, or 4; the lowest coverage of the three, and the mean width.
The interval of `dapo-trl evaluate` (Clopper and Pearson's with the effective number of problems) against the
percentile bootstrap. *None*: evaluations without an interval, because all problems have the same value. *Ratio*: mean
width over that of the bootstrap (of the intervals there are).
"""
SETTINGS = {"problems": "d", "measure": "", "mean": ".2f"}
MEASURED = {
    "coverage": ".1%",
    "bootstrap": ".1%",
    "none": ".1%",
    "bootstrap none": ".1%",
    "width": ".3f",
    "ratio": ".2f",
}
NUM_SAMPLES = 32
MEANS = (0.01, 0.03, 0.09, 0.3, 0.5, 0.95)
CONCENTRATIONS = (0.3, 1.0, 4.0)
NUM_RESAMPLES = 400
Intervals = np.ndarray
"""Of shape `(N, 2)`: low and high ends, NaN where there is none."""


def draw(measure: str, mean: float, concentration: float, shape: tuple[int, int], rng: np.random.Generator):
    """Values of a measure of shape `shape`, experiments by problems."""
    pass_rates = rng.beta(mean * concentration, (1 - mean) * concentration, shape)
    num_right = rng.binomial(NUM_SAMPLES, pass_rates)
    if measure.startswith("avg"):
        return num_right / NUM_SAMPLES
    return (np.sign(2 * num_right - NUM_SAMPLES) + 1) / 2  # all wrong answers are the same one


def ours(values: np.ndarray) -> Intervals:
    """The package's."""
    found = [estimate(experiment) for experiment in values]
    return np.array([(interval.low, interval.high) for interval in found])


def bootstrap(values: np.ndarray, rng: np.random.Generator) -> Intervals:
    """Percentiles of the means of resamples; none if all values are equal."""
    options = {"n_resamples": NUM_RESAMPLES, "batch": 20, "confidence_level": CONFIDENCE, "method": "percentile"}
    interval = stats.bootstrap((values,), np.mean, axis=1, rng=rng, **options).confidence_interval
    ends = np.stack([interval.low, interval.high], axis=1)
    ends[np.ptp(values, axis=1) == 0] = np.nan
    return ends


def judge(intervals: Intervals, truth: float) -> dict[str, float]:
    """Coverage (no interval covers nothing), share without an interval, mean width of the others."""
    low, high = intervals.T
    is_there = ~np.isnan(low)
    return {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "none": float(1 - is_there.mean()),
        "width": float((high - low)[is_there].mean()) if is_there.any() else float("nan"),
    }


def measure_one(problems: int, measure: str, mean: float, experiments: int, seed: int) -> dict[str, Any]:
    """One row of the table."""
    rng = np.random.default_rng(seed)
    by_shape = {}
    for concentration in CONCENTRATIONS:
        many = draw(measure, mean, concentration, (1000, 1000), rng)
        truth = mean if measure.startswith("avg") else float(many.mean())
        values = draw(measure, mean, concentration, (experiments, problems), rng)
        judged = {"ours": judge(ours(values), truth), "bootstrap": judge(bootstrap(values, rng), truth)}
        by_shape[f"a + b = {concentration:g}"] = judged | {"truth": truth}
    found = {name: [shape[name] for shape in by_shape.values()] for name in ("ours", "bootstrap")}
    widths = {name: np.nanmean([judged["width"] for judged in values]) for name, values in found.items()}
    return {
        "problems": problems,
        "measure": measure,
        "mean": mean,
        "coverage": min(judged["coverage"] for judged in found["ours"]),
        "bootstrap": min(judged["coverage"] for judged in found["bootstrap"]),
        "none": max(judged["none"] for judged in found["ours"]),
        "bootstrap none": max(judged["none"] for judged in found["bootstrap"]),
        "width": float(widths["ours"]),
        "ratio": float(widths["ours"] / widths["bootstrap"]),
        "shapes": by_shape,
        "command": f"python -m benchmarks.evaluation.intervals --problems {problems} --experiments {experiments} "
        f"--seed {seed}",
    }


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 500])
    parser.add_argument("--experiments", type=int, default=1000, help="evaluations of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = [
        measure_one(problems, measure, mean, arguments.experiments, arguments.seed)
        for problems in arguments.problems
        for measure in (f"avg@{NUM_SAMPLES}", f"maj@{NUM_SAMPLES}")
        for mean in MEANS
    ]
    show(SETTINGS | MEASURED, rows)
    record("evaluation_intervals", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
