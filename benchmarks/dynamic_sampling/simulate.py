"""
What dynamic sampling costs: completions generated per completion trained, times the acceptance rate (1 is the limit).

```bash
python benchmarks/dynamic_sampling/simulate.py --output benchmarks/dynamic_sampling
```

The planner of `dapo_trl.sampling` against the strategies of public systems, on simulated groups that are informative
with a given probability, steady or drifting. Prints a table and draws cost against rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np

from dapo_trl.sampling import AcceptanceRate, round_size


matplotlib.use("Agg")
import matplotlib.pyplot as plt


MAX_ROUNDS, MAX_OVERSAMPLING = 10, 3.0
STEADY = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95)
Strategy = Callable[[int, int, AcceptanceRate], int]


def ours(missing: int, size: int, acceptance: AcceptanceRate) -> int:
    """Sized by the acceptance rate of recent rounds."""
    return round_size(missing, acceptance.estimate(), int(MAX_OVERSAMPLING * size), max(1, size // 64))


STRATEGIES: dict[str, Strategy] = {
    "sized by acceptance (ours)": ours,
    "three times the rollout": lambda missing, size, _: 3 * size,
    "one more whole rollout": lambda missing, size, _: size,
    "one for each missing": lambda missing, size, _: missing,
    "twice the missing": lambda missing, size, _: 2 * missing,
}


def simulate(strategy: Strategy, size: int, rates: np.ndarray, seed: int) -> tuple[float, float, float]:
    """
    Fills rollouts of `size` groups, one for each acceptance rate in `rates`.

    Returns:
        `tuple[float, float, float]`: mean cost (1 is the limit), mean rounds, share of rollouts not filled.
    """
    rng, acceptance = np.random.default_rng(seed), AcceptanceRate()
    drawn_ideal, trained, rounds, shortages = 0.0, 0, 0, 0
    for rate in rates:
        missing, num_rounds = size, 0
        while missing > 0 and num_rounds < MAX_ROUNDS:
            num_prompts = strategy(missing, size, acceptance)
            informative = int(rng.binomial(num_prompts, rate))
            acceptance.observe(informative, num_prompts)
            drawn_ideal += num_prompts * rate
            missing = max(0, missing - informative)
            num_rounds += 1
        trained += size - missing
        rounds += num_rounds
        shortages += missing > 0
    return drawn_ideal / trained, rounds / len(rates), shortages / len(rates)


def scenarios(num_rollouts: int) -> dict[str, np.ndarray]:
    """Acceptance rate of each rollout, by scenario."""
    steady = {f"{rate:.2f}": np.full(num_rollouts, rate) for rate in STEADY}
    return steady | {
        "0.3 to 0.7": np.linspace(0.3, 0.7, num_rollouts),
        "0.9 to 0.1": np.linspace(0.9, 0.1, num_rollouts),
    }


def draw(averages: dict[int, dict[str, tuple[float, float]]], path: Path) -> None:
    """Mean cost against mean rounds, a panel for each size of rollout."""
    figure, panels = plt.subplots(1, len(averages), figsize=(4 * len(averages), 3.6), constrained_layout=True)
    for panel, (size, by_strategy) in zip(panels, averages.items(), strict=True):
        for name, (cost, rounds) in by_strategy.items():
            panel.scatter(rounds, cost, s=60, label=name)
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(title=f"{size} prompts per rollout", xlabel="mean rounds (latency)", ylabel="mean cost (1: limit)")
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Simulate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--num_rollouts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/dynamic_sampling"))
    arguments = parser.parse_args()

    averages = {}
    for size in (8, 32, 512):
        print(f"\n{size} prompts per rollout: cost / rounds / share of shortages")
        averages[size] = {}
        for name, strategy in STRATEGIES.items():
            results = {
                scenario: simulate(strategy, size, rates, arguments.seed)
                for scenario, rates in scenarios(arguments.num_rollouts).items()
            }
            cost = statistics.mean(result[0] for result in results.values())
            rounds = statistics.mean(result[1] for result in results.values())
            averages[size][name] = (cost, rounds)
            row = "  ".join(f"{key}: {c:.2f}/{r:.1f}/{s:.0%}" for key, (c, r, s) in results.items())
            print(f"{name:>27}  mean cost {cost:.3f}, rounds {rounds:.2f}   {row}")
    path = arguments.output / "trade_off.png"
    draw(averages, path)
    print(f"\nDrawn to {path}")


if __name__ == "__main__":
    main()
