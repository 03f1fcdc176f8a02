"""
What dynamic sampling costs: completions generated per completion trained, times the acceptance rate (1 is the limit).

    python -m benchmarks.dynamic_sampling.simulate

The planner of `dapo_trl.sampling` against the strategies of public systems, on simulated groups that are informative
with a given probability, steady or drifting. Prints a line per strategy and draws cost against rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.record import RESULTS, record, show
from dapo_trl.sampling.refill import AcceptanceRate, round_size


matplotlib.use("Agg")
import matplotlib.pyplot as plt


ABOUT = """\
## Cost of dynamic sampling

Completions generated per completion trained, times the acceptance rate: 1 is the limit (*ratio*). Simulated rollouts,
mean over acceptance rates from 0.05 to 0.95, steady and drifting (each scenario is in the JSON file), for the planner
of `dapo_trl.sampling` and for what public systems do. At most ten rounds: rounds cost latency, and a strategy that
draws little leaves many rollouts unfilled (*short*).

![Cost against rounds](results/dynamic_sampling.png)
"""
SETTINGS = {
    "prompts": "d",
    "strategy": "",
}
MEASURED = {
    "ratio": ".3f",
    "rounds": ".2f",
    "short": ".1%",
}
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


def measure(size: int, strategy: str, num_rollouts: int, seed: int) -> dict[str, Any]:
    """One row of the table: means over the scenarios."""
    results = {
        name: simulate(STRATEGIES[strategy], size, rates, seed) for name, rates in scenarios(num_rollouts).items()
    }
    ratio, rounds, short = (statistics.mean(values) for values in zip(*results.values(), strict=True))
    return {
        "prompts": size,
        "strategy": strategy,
        "ratio": ratio,
        "rounds": rounds,
        "short": short,
        "scenarios": {
            name: dict(zip(("ratio", "rounds", "short"), result, strict=True)) for name, result in results.items()
        },
        "command": f"python -m benchmarks.dynamic_sampling.simulate --rollouts {num_rollouts} --seed {seed}",
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean cost against mean rounds, a panel for each size of rollout."""
    sizes = sorted({row["prompts"] for row in rows})
    figure, panels = plt.subplots(1, len(sizes), figsize=(4 * len(sizes), 3.6), constrained_layout=True)
    for panel, size in zip(panels, sizes, strict=True):
        for row in rows:
            if row["prompts"] == size:
                panel.scatter(row["rounds"], row["ratio"], s=60, label=row["strategy"])
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(title=f"{size} prompts per rollout", xlabel="mean rounds (latency)", ylabel="mean cost (1: limit)")
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Simulate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rollouts", type=int, default=1000, help="of each scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    rows = [
        measure(size, strategy, arguments.rollouts, arguments.seed) for size in (8, 32, 512) for strategy in STRATEGIES
    ]
    show(SETTINGS | MEASURED, rows)
    record("dynamic_sampling", ABOUT, SETTINGS, MEASURED, rows, arguments.results)
    draw(rows, arguments.results / "dynamic_sampling.png")


if __name__ == "__main__":
    main()
