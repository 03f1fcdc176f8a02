"""Signs that a run goes wrong, each with a reason and a remedy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from transformers import TrainerCallback

from ..run.early_end import EndOfRun
from .logs import RolloutRecords


logger = get_logger(__name__)

Record = dict[str, float]

QUIET_ROLLOUTS = 50
"""Rollouts after an alarm in which the same one is not raised again."""

START_ROLLOUTS = 5
"""First rollouts of a run, whose mean is what entropy is compared with."""

RECENT_ROLLOUTS = 3
"""Rollouts that are judged together, because one alone may be an accident. The first ones have only themselves."""

CONSTANT_CLIPPING_ROLLOUTS = 20
"""Rollouts without any clipped token that are too many."""


class AlarmError(EndOfRun):
    """An alarm ends the run, because `on_alarm` is `"stop"`."""


@dataclass(frozen=True)
class Alarm:
    """`find` takes the records of all rollouts, oldest first, and returns what is wrong, or None."""

    name: str
    find: Callable[[list[Record]], str | None]
    remedy: str


def _recent_mean(records: list[Record], metric: str, num_rollouts: int = RECENT_ROLLOUTS) -> float | None:
    values = [record[metric] for record in records[-num_rollouts:] if metric in record]
    return fmean(values) if values else None


def _entropies(records: list[Record]) -> tuple[float, float]:
    """Mean entropy at the start and of late, in nats per token; NaN while it is too early to tell."""
    values = [record["entropy"] for record in records if "entropy" in record]
    if len(values) < START_ROLLOUTS + RECENT_ROLLOUTS:
        return math.nan, math.nan
    return fmean(values[:START_ROLLOUTS]), fmean(values[-RECENT_ROLLOUTS:])


def _entropy_collapse(records: list[Record]) -> str | None:
    start, recent = _entropies(records)
    if recent < max(0.02, min(0.1, 0.2 * start)):
        return f"Entropy has collapsed to {recent:.3f} nats per token, from {start:.3f} in the first rollouts."
    return None


def _entropy_explosion(records: list[Record]) -> str | None:
    start, recent = _entropies(records)
    if recent > max(1.0, 3 * start):
        return f"Entropy has exploded to {recent:.3f} nats per token, from {start:.3f} in the first rollouts."
    return None


def _low_acceptance(records: list[Record]) -> str | None:
    accepted = _recent_mean(records, "dynamic_sampling/acceptance_rate")
    if accepted is None or accepted >= 0.1:
        return None
    reason = f"Only {accepted:.1%} of the generated groups carry a gradient"
    right = _recent_mean(records, "dynamic_sampling/frac_all_correct")
    wrong = _recent_mean(records, "dynamic_sampling/frac_all_wrong")
    if right is None or wrong is None:  # it is not known what is right
        return f"{reason}."
    return f"{reason}: {right:.0%} are all right, {wrong:.0%} all wrong."


def _above(metric: str, limit: float, reason: str, num_rollouts: int = RECENT_ROLLOUTS) -> Callable:
    """A metric whose recent mean is above a limit; the reason is formatted with this `mean`."""

    def find(records: list[Record]) -> str | None:
        mean = _recent_mean(records, metric, num_rollouts)
        return None if mean is None or mean <= limit else reason.format(mean=mean)

    return find


def _constant_rewards(records: list[Record]) -> str | None:
    recent = [record.get("frac_reward_zero_std", 0.0) for record in records[-RECENT_ROLLOUTS:]]
    if len(recent) < RECENT_ROLLOUTS or min(recent) < 1.0:
        return None
    return f"In the last {RECENT_ROLLOUTS} rollouts all completions of a prompt had the same reward."


def _verifier_failures(records: list[Record]) -> str | None:
    failed = _recent_mean(records, "verifier/frac_error") or 0.0
    stopped = _recent_mean(records, "verifier/frac_timeout") or 0.0
    if failed + stopped <= 0.01:
        return None
    return f"The verifier failed on {failed:.1%} of the answers and ran into its time-out on {stopped:.1%}."


def _never_clipped(learning_rate: float) -> Callable[[list[Record]], str | None]:
    """Rollouts at less than half of the highest learning rate do not count: the policy hardly moves in them."""

    def find(records: list[Record]) -> str | None:
        recent = records[-CONSTANT_CLIPPING_ROLLOUTS:]
        if len(recent) < CONSTANT_CLIPPING_ROLLOUTS:
            return None
        if any(record.get("learning_rate", 0.0) < learning_rate / 2 for record in recent):
            return None
        shares = [record.get("clip_ratio/region_mean", record.get("cispo_clip_ratio")) for record in recent]
        if any(share is None or share > 0 for share in shares):
            return None
        return f"No token has been clipped in {CONSTANT_CLIPPING_ROLLOUTS} rollouts: the policy hardly moves."

    return find


def default_alarms(optimizer_steps: int, learning_rate: float, usual_difference: float = math.inf) -> list[Alarm]:
    """
    The alarms of a run.

    Args:
        optimizer_steps (`int`): optimizer steps per rollout; with one, every ratio is 1 and nothing is ever clipped.
        learning_rate (`float`): the highest of the schedule.
        usual_difference (`float`):
            Largest mean difference of the log-probabilities of vLLM and the trainer that rounding explains, in nats
            per token.
    """
    alarms = [
        Alarm(
            "entropy_collapse",
            _entropy_collapse,
            "The policy stops exploring: raise epsilon_high (0.28 in the paper), lower learning_rate, or check that "
            "the reward cannot be gained by one phrase.",
        ),
        Alarm(
            "entropy_explosion",
            _entropy_explosion,
            "The policy falls apart into noise: lower learning_rate or epsilon_high, and look at completions "
            "(log_completions) for gibberish.",
        ),
        Alarm(
            "low_acceptance",
            _low_acceptance,
            "Most of the generation is thrown away: choose prompts that are neither too easy nor too hard "
            "(dapo-trl prepare-data can measure pass rates), or raise num_generations.",
        ),
        Alarm(
            "many_unscorable",
            _above(
                "dynamic_sampling/frac_unscorable",
                0.1,
                "{mean:.0%} of the generated groups are unscorable: the filter reward of some completion is None (or "
                "NaN), so that nobody knows whether it is right.",
            ),
            "With dynamic sampling such groups are generated and dropped: check the data's reference answers and the "
            "reward function, or, if other functions score these completions, name them in dynamic_sampling_metric "
            "too.",
        ),
        Alarm(
            "many_truncated",
            _above(
                "completions/clipped_ratio",
                0.3,
                "{mean:.0%} of the completions are cut off at max_completion_length.",
            ),
            "Answers that are not reached count as wrong: raise max_completion_length, or set soft_punish_cache so "
            "that long completions are punished.",
        ),
        Alarm(
            "constant_rewards",
            _constant_rewards,
            "There is nothing to learn from: check the reward functions on a few completions, that sampling is on "
            "(temperature), and that the prompts fit the model.",
        ),
        Alarm(
            "verifier_failures",
            _verifier_failures,
            "Rewards become unreliable: look at the column verdict of the completions table (log_completions) for "
            "the answers concerned, raise the timeout of AccuracyReward, or use fewer processes per machine.",
        ),
        Alarm(
            "sampler_mismatch",
            _above(
                "sampling/sampling_logp_difference/mean",
                usual_difference,
                "The log-probabilities of vLLM and of the trainer differ by {mean:.3g} nats per token, where rounding "
                f"explains {usual_difference:g}: the policy that is trained is not the one that generated.",
                num_rollouts=1,
            ),
            "Start the server with the command that `dapo-trl vllm-command` prints, from the very files that the "
            "trainer loads and without quantization; train without dropout; let no other run use the server.",
        ),
        Alarm(
            "copied_completions",
            _above(
                "completions/frac_copied",
                0.01,
                "{mean:.1%} of the completions are copies of another one of their group, too improbable for chance.",
                num_rollouts=1,
            ),
            "Something samples twice with the same random numbers, so that groups are smaller than they seem: check "
            "that the vLLM server takes the seeds of the requests (nothing between it and the trainer may drop them), "
            "and that no two engines or processes have the same seed.",
        ),
        Alarm(
            "never_clipped",
            _never_clipped(learning_rate),
            "The updates are too small to need the clip bounds: raise learning_rate or updates_per_rollout, and check "
            "that gradients arrive (grad_norm).",
        ),
    ]
    return alarms if optimizer_steps > 1 else alarms[:-1]


class AlarmCallback(TrainerCallback):
    """
    Looks at the metrics of every rollout and warns, at most once per condition in 50 rollouts; with
    `on_alarm="stop"`, the run ends before the next rollout.

    What a run that is resumed had logged before counts too: one that ended on an alarm has 50 rollouts to recover.
    `raised` and `message` are names and text of the alarms of the last rollout that raised any.
    """

    def __init__(self, alarms: list[Alarm], optimizer_steps: int, accelerator: Accelerator | None = None):
        self.alarms = alarms
        self._accelerator = accelerator
        self.optimizer_steps = optimizer_steps
        self._reset()

    def _reset(self) -> None:
        self.raised: list[str] = []
        self.message: str | None = None
        self._records = RolloutRecords(self.optimizer_steps)
        self._history: list[Record] = []
        self._last_raised: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._reset()
        for record in self._records.add_history(state.log_history):
            self._find(record)

    def on_step_begin(self, args, state, control, **kwargs):
        if args.on_alarm == "stop" and state.global_step % self.optimizer_steps == 0:
            self._stop_if_raised()

    def on_log(self, args, state, control, logs=None, **kwargs):
        record = self._records.add(state.global_step, logs)
        found = self._find(record) if record is not None else {}
        if found:
            self.raised, self.message = list(found), " ".join(found.values())
        for message in found.values():
            logger.warning(f"Rollout {state.global_step // self.optimizer_steps}: {message}")

    def _find(self, record: Record) -> dict[str, str]:
        """Text of the alarms that a rollout raises, by name."""
        self._history.append(record)
        del self._history[START_ROLLOUTS:-CONSTANT_CLIPPING_ROLLOUTS]  # looked at by no alarm
        found = {}
        for alarm in self.alarms:
            last = self._last_raised.get(alarm.name)
            if last is not None and record["rollout"] - last < QUIET_ROLLOUTS:
                continue
            reason = alarm.find(self._history)
            if reason is not None:
                self._last_raised[alarm.name] = record["rollout"]
                found[alarm.name] = f"{reason} {alarm.remedy}"
        return found

    def raise_now(self, name: str, message: str, global_step: int) -> None:
        """Warns at once, and not only when the rollout is logged; at most once per rollout."""
        rollout = global_step // self.optimizer_steps + 1
        if self._last_raised.get(name) == rollout:
            return
        self._last_raised[name] = rollout
        self.raised, self.message = [name], message
        logger.warning(f"Rollout {rollout}: {message}")

    def _stop_if_raised(self) -> None:
        """Ends the run on all processes if the main process has raised an alarm."""
        accelerator = self._accelerator
        assert accelerator is not None, "on_alarm='stop' needs one"
        is_raised = accelerator.is_main_process and self.message is not None
        flag = torch.tensor(int(is_raised), device=accelerator.device)
        if accelerator.reduce(flag, reduction="sum").item():
            raise AlarmError(self.message or "The main process has raised an alarm.")
