"""Metrics that TRL averages over calls or micro-batches, weighed by what they describe: rows or tokens."""

import math
from collections import defaultdict
from itertools import filterfalse

import torch
from accelerate import Accelerator
from trl.trainer.utils import nanstd


TOKEN_MEANS = (
    "kl",
    "entropy",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
    "clip_ratio/region_mean",
    "cispo_clip_ratio",
)
"""Metrics of `_compute_loss` that are means over the trained tokens of one micro-batch of every process."""


EXTREMES = {"clip_ratio/low_min": min, "clip_ratio/high_max": max}
"""Metrics of `_compute_loss` that are the extreme row of one micro-batch of every process."""


IMPROBABLE = -20.0
"""
Nats: a completion that a policy gives once in 500 million times. Short answers and those of a policy that has become
certain are more probable than that, and come twice.
"""


class MicroBatchMetrics:
    """What `_compute_loss` recorded over micro-batches of different sizes, as if they had been one."""

    def __init__(self):
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._tokens: dict[str, int] = defaultdict(int)
        self._extremes: dict[str, float] = {}

    def add(self, metrics: dict[str, list[float]], num_tokens: int) -> None:
        """
        Takes token means and extremes out of what one micro-batch recorded.

        Args:
            metrics (`dict[str, list[float]]`): as recorded; the entries taken are removed.
            num_tokens (`int`): trained tokens of the micro-batch, over all processes.
        """
        for name in TOKEN_MEANS:
            for value in metrics.pop(name, []):
                self._sums[name] += value * num_tokens
                self._tokens[name] += num_tokens
        for name, extreme in EXTREMES.items():
            # NaN: a process's micro-batch held nothing but rows that are not trained on.
            for value in filterfalse(math.isnan, metrics.pop(name, [])):
                self._extremes[name] = extreme(self._extremes.get(name, value), value)

    def flush(self) -> dict[str, float]:
        """The metrics since the last flush; names without any trained token are left out."""
        means = {name: self._sums[name] / tokens for name, tokens in self._tokens.items() if tokens}
        flushed = means | self._extremes
        self._reset()
        return flushed


class MeanProbability:
    """
    Mean probability of the tokens that are trained on, under the policy that is being trained (DAPO Fig. 7d).

    Sums stay on the device until they are asked for: nothing waits for a micro-batch.
    """

    def __init__(self):
        self._sums: torch.Tensor | None = None

    def add(self, logps: torch.Tensor, mask: torch.Tensor) -> None:
        """
        Takes one micro-batch.

        Args:
            logps (`torch.Tensor` of shape `(B, T)`): log-probability of each token, in nats.
            mask (`torch.Tensor` of shape `(B, T)`): 1 for tokens that are trained on.
        """
        mask = mask.float()
        sums = torch.stack([(logps.float().exp() * mask).sum(), mask.sum()])
        self._sums = sums if self._sums is None else self._sums + sums

    def flush(self, accelerator: Accelerator) -> float:
        """The mean over all processes since the last flush; NaN without any token."""
        total, count = accelerator.reduce(self._sums, reduction="sum").tolist()
        self._sums = None
        return total / count if count else math.nan


def means_of_numbers(metrics: dict[str, list[float]]) -> dict[str, float]:
    """Mean of each metric without its NaN; a metric without any number is left out."""
    numbers = {name: [value for value in values if not math.isnan(value)] for name, values in metrics.items()}
    return {name: sum(values) / len(values) for name, values in numbers.items() if values}


def count_copies(
    completions: torch.Tensor, logps: torch.Tensor | None, num_generations: int
) -> tuple[float, float | None]:
    """
    How much of what was generated repeats another completion of its group.

    Args:
        completions (`torch.Tensor` of shape `(P * G,)`): a hash of each completion, groups contiguous.
        logps (`torch.Tensor` of shape `(P * G,)`, *optional*): log-probability of each completion, in nats.
        num_generations (`int`): G.

    Returns:
        `tuple[float, float]`: distinct completions of a group over G, averaged over groups; and the share of
        completions that repeat an earlier one of their group although they are too improbable
        ([`IMPROBABLE`]) to come twice by chance, or None without log-probabilities.
    """
    groups = completions.view(-1, num_generations)
    is_equal = groups[:, :, None] == groups[:, None, :]
    is_copy = is_equal.tril(diagonal=-1).any(dim=2)
    frac_distinct = 1 - is_copy.float().mean().item()
    if logps is None:
        return frac_distinct, None
    return frac_distinct, (is_copy & (logps.view_as(groups) < IMPROBABLE)).float().mean().item()


def total_rewards(rewards_per_func: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    Weighted sum of the rewards of each row.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(B, F)`): NaN where a function does not apply.
        weights (`torch.Tensor` of shape `(F,)`): weights of the functions.

    Returns:
        `torch.Tensor` of shape `(B,)`: NaN where no function applies.
    """
    total = (rewards_per_func * weights.to(rewards_per_func.device)).nansum(dim=1)
    return total.masked_fill(torch.isnan(rewards_per_func).all(dim=1), torch.nan)


def reward_metrics(
    rewards_per_func: torch.Tensor, weights: torch.Tensor, names: list[str], num_generations: int
) -> dict[str, float]:
    """
    TRL's reward metrics over the given rows.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(P * G, F)`): rewards of all generated rows, groups contiguous.
        weights (`torch.Tensor` of shape `(F,)`): weights of the functions.
        names (`list[str]` of length F): names of the functions.
        num_generations (`int`): G.

    Returns:
        `dict[str, float]`: `reward`, `reward_std`, `frac_reward_zero_std`, and `rewards/<name>/mean` and
        `rewards/<name>/std` for each function.
    """
    metrics = {}
    for i, name in enumerate(names):
        metrics[f"rewards/{name}/mean"] = torch.nanmean(rewards_per_func[:, i]).item()
        metrics[f"rewards/{name}/std"] = nanstd(rewards_per_func[:, i]).item()
    total = total_rewards(rewards_per_func, weights)
    metrics["reward"] = torch.nanmean(total).item()
    metrics["reward_std"] = nanstd(total).item()
    groups = total.view(-1, num_generations)
    is_constant = groups.nan_to_num(-torch.inf).amax(dim=1) <= groups.nan_to_num(torch.inf).amin(dim=1)
    is_constant &= (~torch.isnan(groups)).sum(dim=1) > 1  # one value alone has no deviation
    metrics["frac_reward_zero_std"] = is_constant.float().mean().item()
    return metrics


def only_value(values: torch.Tensor) -> float | None:
    """The value that all elements have which are not NaN; None if they differ, or there is none."""
    values = values[~values.isnan()]
    return values[0].item() if len(values) and values.max() == values.min() else None


def why_no_signal(
    rewards_per_func: torch.Tensor, weights: torch.Tensor, num_generations: int, num_tokens: float
) -> str | None:
    """
    Why a rollout can teach nothing, as a sentence; None if it can.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(P * G, F)`): rewards of the rows to train on, groups contiguous.
        weights (`torch.Tensor` of shape `(F,)`): weights of the functions.
        num_generations (`int`): G.
        num_tokens (`float`): tokens to train on.
    """
    total = total_rewards(rewards_per_func, weights)
    if total.isnan().all():
        return (
            "In the last rollout no reward function scored any completion, all returned None (or NaN): check the gold "
            "answers and the columns that the reward functions need."
        )
    groups = total.view(-1, num_generations)
    if not (groups.nan_to_num(-torch.inf).amax(dim=1) > groups.nan_to_num(torch.inf).amin(dim=1)).any():
        value = only_value(total)
        what = "all completions of a prompt have the same reward" if value is None else f"every reward is {value:g}"
        return (
            f"In the last rollout {what}, so that no completion is better than another: check the reward functions on "
            "a few right and wrong completions, and that sampling is on (temperature)."
        )
    if num_tokens == 0:
        return (
            "In the last rollout every completion was cut off, and mask_truncated_completions leaves such completions "
            "out of the loss: raise max_completion_length."
        )
    return None


def constant_value(rewards_per_func: torch.Tensor, weights: torch.Tensor, deciding: int) -> float | None:
    """
    The value of a deciding reward that never varies although the total reward does: a sign of a broken reward.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(B, F)`): rewards of all generated rows.
        weights (`torch.Tensor` of shape `(F,)`): weights of the functions.
        deciding (`int`): index of the deciding reward.

    Returns:
        `float`, or None if the deciding reward varies, is missing everywhere, or the total reward is constant too.
    """
    total = total_rewards(rewards_per_func, weights)
    return None if only_value(total) is not None else only_value(rewards_per_func[:, deciding])
