"""The figures at the top of a report."""

from dataclasses import dataclass
from statistics import fmean

from .runs import Record, Run, RunGroup


FINAL_SHARE = 0.1
"""Share of the rollouts that count as the end of a run."""

MOST_FINAL_ROLLOUTS = 20


@dataclass(frozen=True)
class Highlight:
    """
    A figure of one run, or of the seeds of one.

    Attributes:
        label (`str`): what it is.
        value (`str`): the mean over the seeds.
        detail (`str`): the range over the seeds, or the interval; empty if there is none.
    """

    label: str
    value: str
    detail: str = ""


def highlights(group: RunGroup) -> list[Highlight]:
    """Final reward, accuracy and evaluation, acceptance, generated per trained, rollouts, time; `–` for unknown."""
    runs = group.runs
    return [
        _over_seeds("Final reward", [_final(run.records, "reward") for run in runs], "{:.3f}"),
        _over_seeds("Final accuracy", [_final(run.records, "frac_correct") for run in runs], "{:.1%}"),
        _evaluation(runs),
        _over_seeds("Acceptance", [_mean(run.records, "dynamic_sampling/acceptance_rate") for run in runs], "{:.1%}"),
        _over_seeds(
            "Generated per trained",
            [_mean(run.records, "dynamic_sampling/generated_per_trained") for run in runs],
            "{:.2f}",
        ),
        _over_seeds("Rollouts", [float(num_rollouts(run)) for run in runs], "{:.0f}"),
        _time(runs),
    ]


def num_rollouts(run: Run) -> int:
    """Rollouts so far; records, where rollouts are unknown."""
    return int(run.records[-1].get("rollout", len(run.records)))


def _mean(records: list[Record], metric: str) -> float | None:
    values = [record[metric] for record in records if metric in record]
    return fmean(values) if values else None


def _final(records: list[Record], metric: str) -> float | None:
    count = max(1, min(MOST_FINAL_ROLLOUTS, round(FINAL_SHARE * len(records))))
    return _mean(records[-count:], metric)


def _over_seeds(label: str, values: list[float | None], form: str) -> Highlight:
    known = [value for value in values if value is not None]
    if not known:
        return Highlight(label, "–")
    low, high = form.format(min(known)), form.format(max(known))
    detail = f"{low} to {high}" if low != high else ""
    return Highlight(label, form.format(fmean(known)), detail)


def _evaluation(runs: list[Run]) -> Highlight:
    """The last avg@k; with its interval, averaged over the seeds."""
    names = {name for run in runs for record in run.evaluations for name in record if _is_accuracy(name)}
    if not names:
        return Highlight("Evaluation", "–")
    name = min(names)
    last = [records[-1] for run in runs if (records := [log for log in run.evaluations if name in log])]
    label = f"Evaluation {name.removeprefix('eval_').replace('_', ' ')}"
    value = f"{fmean(record[name] for record in last):.1%}"
    if any(f"{name}_low" not in record for record in last):
        return Highlight(label, value)
    ends = [_mean(last, f"{name}_{end}") for end in ("low", "high")]
    return Highlight(label, value, "95%: {:.1%} to {:.1%}".format(*ends))


def _is_accuracy(name: str) -> bool:
    return "avg@" in name and not name.endswith(("_low", "_high"))


def _time(runs: list[Run]) -> Highlight:
    seconds = [value for run in runs if (value := run_seconds(run)) is not None]
    if not seconds:
        return Highlight("Time", "–")
    low, high = format_seconds(min(seconds)), format_seconds(max(seconds))
    return Highlight("Time", format_seconds(fmean(seconds)), f"{low} to {high}" if low != high else "")


def run_seconds(run: Run) -> float | None:
    """Seconds of all rollouts together; pauses between resumptions do not count."""
    seconds = [record["time/rollout"] for record in run.records if "time/rollout" in record]
    if not seconds:
        return None
    return fmean(seconds) * num_rollouts(run)


def format_seconds(seconds: float) -> str:
    """
    >>> format_seconds(3725)
    '1 h 2 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
