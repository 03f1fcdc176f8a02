"""Which curves a report shows. `docs/metrics.md` says what each metric means, and what is healthy."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..monitoring.timer import PHASES
from ..rewards.outcome import Reason
from .runs import Run


class Panel(NamedTuple):
    """One metric of all groups of runs, or several metrics of one group, with names for the legend."""

    title: str
    unit: str
    metrics: dict[str, str]


ACCURACY = Panel("Correct completions", "share of generated", {"frac_correct": ""})
LENGTH = Panel("Response length", "tokens, mean", {"completions/mean_length": ""})
REWARD = Panel("Reward", "mean of generated", {"reward": ""})
ENTROPY = Panel("Entropy", "nats per token", {"entropy": ""})
PROBABILITY = Panel("Mean probability", "of trained tokens", {"mean_probability": ""})
ACCEPTANCE = Panel("Acceptance rate", "share of generated groups", {"dynamic_sampling/acceptance_rate": ""})

PLAIN = (Reason.RULE, Reason.GOLD_UNREADABLE)
# Names for the legend, by metric.
CLIPPED = {"clip_ratio/low_mean": "lower bound", "clip_ratio/high_mean": "upper bound"}
LENGTHS = {
    "completions/mean_length": "generated",
    "completions/mean_accepted_length": "accepted",
    "completions/mean_correct_length": "correct",
}
VERDICTS = {f"verifier/frac_{reason}": reason.replace("_", " ") for reason in Reason if reason not in PLAIN}
SECONDS = {f"time/{phase}": phase.replace("_", " ") for phase in (*PHASES, "rollout")}
SPEEDS = {f"tokens_per_second/{phase}": phase for phase in ("generation", "training", "rollout")}

# All charts by heading, but for those of evaluations.
SECTIONS = {
    "Learning": [ACCURACY, LENGTH, REWARD, ENTROPY, PROBABILITY],
    "Dynamic sampling": [
        ACCEPTANCE,
        Panel("Groups all correct", "share of generated groups", {"dynamic_sampling/frac_all_correct": ""}),
        Panel("Groups all wrong", "share of generated groups", {"dynamic_sampling/frac_all_wrong": ""}),
        Panel("Rounds", "generation rounds per rollout", {"dynamic_sampling/rounds": ""}),
        Panel("Generated per trained", "completions", {"dynamic_sampling/generated_per_trained": ""}),
    ],
    "Updates": [
        Panel("Clipped tokens", "share of trained tokens", CLIPPED),
        Panel("Gradient norm", "before clipping", {"grad_norm": ""}),
        Panel("Learning rate", "per optimizer step", {"learning_rate": ""}),
    ],
    "Completions": [
        Panel("Truncated completions", "share of generated", {"completions/clipped_ratio": ""}),
        Panel("Length bias", "tokens, mean", LENGTHS),
        Panel("Verdicts not by plain rules", "share of completions", VERDICTS),
    ],
    "Time": [
        Panel("Phases", "seconds per rollout", SECONDS),
        Panel("Tokens per second", "tokens per second", SPEEDS),
    ],
}


def evaluation_metrics(runs: Iterable[Run]) -> list[str]:
    """`eval_avg@k`, and `eval_<set>_avg@k` of named evaluation sets."""
    metrics = {str(metric) for run in runs for metric in run.evaluations}
    return sorted(metric for metric in metrics if re.fullmatch(r"eval_(.+_)?avg@\d+", metric))


def evaluation_panels(groups: dict[str, list[Run]]) -> list[Panel]:
    metrics = evaluation_metrics(run for runs in groups.values() for run in runs)
    return [Panel(evaluation_name(metric), "mean over problems", {metric: ""}) for metric in metrics]


def evaluation_name(metric: str) -> str:
    """`eval_aime24_avg@32` as 'Evaluation: aime24 avg@32'."""
    return f"Evaluation: {metric.removeprefix('eval_').replace('_', ' ')}"
