"""
How often the 95% intervals of avg@k and maj@k hold the truth: simulated evaluations of 30 problems with 32 samples.

    python -m benchmarks.evaluation.coverage

Every problem has its own chance of a right answer, from a beta distribution. The truth of avg@32 is the mean of that
distribution; that of maj@32 (right if more than half of the samples are) is found from a million problems.
"""

import argparse

import numpy as np

from dapo_trl.evaluation.statistics import Estimate, estimate, estimate_share


NUM_PROBLEMS, NUM_SAMPLES = 30, 32
MODELS = {
    "very weak": (0.15, 4.85),
    "weak": (0.18, 1.82),
    "usual": (0.45, 1.05),
    "good": (1.6, 0.4),
    "strong": (1.9, 0.1),
}
INTERVALS = {"Korn-Graubard": estimate_share, "bootstrap": estimate}


def simulate(shape: tuple[float, float], num_problems: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    num_right = rng.binomial(NUM_SAMPLES, rng.beta(*shape, num_problems))
    majority = np.where(num_right * 2 == NUM_SAMPLES, 0.5, num_right * 2 > NUM_SAMPLES)
    return {"avg@32": num_right / NUM_SAMPLES, "maj@32": majority}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--evaluations", type=int, default=1000)
    num_evaluations = parser.parse_args().evaluations
    print(
        "| model | measure | truth | interval | holds the truth | width | no interval |\n|---|---|---|---|---|---|---|"
    )
    for name, shape in MODELS.items():
        rng = np.random.default_rng(0)
        truth = {measure: values.mean() for measure, values in simulate(shape, 1_000_000, rng).items()}
        evaluations = [simulate(shape, NUM_PROBLEMS, rng) for _ in range(num_evaluations)]
        for measure, true_value in truth.items():
            for interval, method in INTERVALS.items():
                found: list[Estimate] = [method(values[measure]) for values in evaluations]
                coverage = np.mean([one.low <= true_value <= one.high for one in found])
                width = np.nanmean([one.high - one.low for one in found])
                none = np.mean([np.isnan(one.low) for one in found])
                figures = f"{true_value:.3f} | {interval} | {coverage:.1%} | {width:.3f} | {none:.0%}"
                print(f"| {name} | {measure} | {figures} |")


if __name__ == "__main__":
    main()
