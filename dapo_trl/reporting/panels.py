"""Which curves a report shows, in which units, and what they look like when a run is well."""

import re
from dataclasses import dataclass, field

from ..monitoring.timer import PHASES
from ..rewards.outcome import Reason
from .runs import RunGroup


@dataclass(frozen=True)
class Panel:
    """
    A chart.

    Args:
        name (`str`): name of its file.
        title (`str`): what it shows.
        unit (`str`): label of the vertical axis.
        metrics (`dict[str, str]`): names for the legend by metric; one without a name needs none.
        healthy (`str`): one or two sentences: what it looks like when the run is well.
        is_share (`bool`): values are shares of 1, shown in percent.
        kind (`str`): `"lines"`: all runs overlaid; `"evaluation"`: the same, points with intervals; `"each"`: a chart
            for each run, where colours tell metrics apart; `"stack"`: the same, metrics on top of each other.
    """

    name: str
    title: str
    unit: str
    metrics: dict[str, str]
    healthy: str
    is_share: bool = False
    kind: str = "lines"


@dataclass(frozen=True)
class Section:
    """
    Charts that answer one question.

    Args:
        title (`str`): its heading.
        panels (`list[Panel]`): its charts.
    """

    title: str
    panels: list[Panel] = field(default_factory=list)


def _single(name: str, title: str, unit: str, metric: str, healthy: str, is_share: bool = False) -> Panel:
    return Panel(name, title, unit, {metric: ""}, healthy, is_share)


ACCURACY = _single(
    "accuracy",
    "Correct completions",
    "of all generated",
    "frac_correct",
    "Rises, fast at first. Prompts differ from rollout to rollout, and so does this share.",
    is_share=True,
)

FIGURE_7 = [
    _single(
        "length",
        "Response length",
        "tokens, mean",
        "completions/mean_length",
        "Grows, with pauses, as the model learns to reason. Growth without reward is rambling.",
    ),
    _single(
        "reward",
        "Reward",
        "mean of all generated",
        "reward",
        "Rises steadily. It says little about new problems: compare it with the evaluation.",
    ),
    _single(
        "entropy",
        "Generation entropy",
        "nats per token",
        "entropy",
        "Level, or falling slowly. A fall to zero ends exploration; a steep rise is gibberish.",
    ),
    _single(
        "mean_probability",
        "Mean probability",
        "of trained tokens",
        "mean_probability",
        "Mirrors the entropy: well below 1 as long as the model explores.",
    ),
]

SAMPLING = Section(
    "Dynamic sampling",
    [
        _single(
            "acceptance",
            "Acceptance rate",
            "of generated groups",
            "dynamic_sampling/acceptance_rate",
            "Falls as prompts are mastered. Below 10%, most of the generation is thrown away.",
            is_share=True,
        ),
        _single(
            "all_correct",
            "Groups all correct",
            "of generated groups",
            "dynamic_sampling/frac_all_correct",
            "Rises with the accuracy: what the model has learnt teaches it nothing more.",
            is_share=True,
        ),
        _single(
            "all_wrong",
            "Groups all wrong",
            "of generated groups",
            "dynamic_sampling/frac_all_wrong",
            "Falls. If it stays high, the prompts are too hard, or their golds cannot be matched.",
            is_share=True,
        ),
        _single(
            "rounds",
            "Rounds",
            "generation rounds per rollout",
            "dynamic_sampling/rounds",
            "1 or 2. More means that the acceptance rate falls faster than it is estimated.",
        ),
        _single(
            "generated_per_trained",
            "Generated per trained",
            "completions per trained completion",
            "dynamic_sampling/generated_per_trained",
            "Little above 1 / acceptance rate: the price of the filter.",
        ),
    ],
)

UPDATES = Section(
    "Updates",
    [
        Panel(
            "clipping",
            "Clipped tokens",
            "of trained tokens",
            {"clip_ratio/low_mean": "lower bound", "clip_ratio/high_mean": "upper bound"},
            "Small, but not zero: below 1% or so. Zero means that the policy hardly moves between rollouts.",
            is_share=True,
        ),
        _single(
            "grad_norm",
            "Gradient norm",
            "before clipping",
            "grad_norm",
            "Level. Spikes that do not come back down precede a collapse.",
        ),
        _single(
            "learning_rate",
            "Learning rate",
            "per optimizer step",
            "learning_rate",
            "As scheduled. Where the warm-up ends, other curves may bend.",
        ),
    ],
)

_VERDICTS = {
    Reason.NO_ANSWER: "no answer",
    Reason.UNFINISHED: "unfinished",
    Reason.MATH_VERIFY: "math-verify",
    Reason.TIMEOUT: "time-out",
    Reason.ERROR: "error",
}

COMPLETIONS = Section(
    "Completions",
    [
        _single(
            "truncated",
            "Truncated completions",
            "of all generated",
            "completions/clipped_ratio",
            "Low, and not rising with the length. Above 30%, answers are not reached.",
            is_share=True,
        ),
        Panel(
            "length_bias",
            "Length-bias meter",
            "tokens, mean",
            {
                "completions/mean_length": "generated",
                "completions/mean_accepted_length": "accepted",
                "completions/mean_correct_length": "correct",
            },
            "Close together. Correct ones much shorter than generated ones: length is being selected, not reasoning.",
            kind="each",
        ),
        Panel(
            "verifier",
            "Verdicts not by plain rules",
            "of all completions",
            {f"verifier/frac_{reason}": name for reason, name in _VERDICTS.items()},
            "All others were decided by plain rules. No answer becomes rare; time-outs and errors stay below 1%.",
            is_share=True,
            kind="stack",
        ),
    ],
)

SPEED = Section(
    "Time",
    [
        Panel(
            "phases",
            "Where the time goes",
            "seconds per rollout",
            {f"time/{phase}": phase.replace("_", " ") for phase in PHASES} | {"time/other": "evaluation, other"},
            "Generation and training dominate. What is largest decides what to speed up next.",
            kind="stack",
        ),
        Panel(
            "tokens_per_second",
            "Tokens per second",
            "tokens per second",
            {
                "tokens_per_second/generation": "generation",
                "tokens_per_second/training": "training",
                "tokens_per_second/rollout": "whole rollout",
            },
            "Level. A slow decline follows growing completions; a sudden drop has its cause in the machine.",
            kind="each",
        ),
    ],
)

_EVALUATION = re.compile(r"eval_(?:(?P<data>.+)_)?(?P<measure>avg@\d+)")


def evaluation_panels(groups: list[RunGroup]) -> list[Panel]:
    """One chart for each `eval_avg@k`, of each evaluation data set."""
    names = {name for group in groups for run in group.runs for record in run.evaluations for name in record}
    panels = []
    for metric in sorted(names):
        match = _EVALUATION.fullmatch(metric)
        if match is None:
            continue
        data = f" on {match['data']}" if match["data"] else ""
        panel = Panel(
            "evaluation_" + re.sub(r"\W+", "_", metric.removeprefix("eval_")),
            f"Evaluation{data}: {match['measure']}",
            "of held-out problems",
            {metric: ""},
            "Rises with the reward. Reward up and this level: the model learns the training prompts, or the verifier.",
            is_share=True,
            kind="evaluation",
        )
        panels.append(panel)
    return panels


def sections(groups: list[RunGroup]) -> list[Section]:
    """All charts in the order of the page, whether or not there is data for them."""
    return [
        Section("Learning", [*evaluation_panels(groups), ACCURACY, *FIGURE_7]),
        SAMPLING,
        UPDATES,
        COMPLETIONS,
        SPEED,
    ]
