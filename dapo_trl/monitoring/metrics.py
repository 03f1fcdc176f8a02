"""Metrics of rewards, tokens and log-probabilities; means are weighed by the rows or tokens they describe."""

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
        """Takes token means and extremes out of what a micro-batch of that many trained tokens recorded."""
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
        """Takes the `(B, T)` log-probabilities of a micro-batch, in nats, and which tokens are trained on."""
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
    Distinct completions of a group over G, averaged over groups; and the share of completions that repeat an earlier
    one of their group although they are too improbable ([`IMPROBABLE`]) to come twice by chance.

    Takes a hash of each completion, `(P * G,)`, groups contiguous, and their log-probabilities in nats; without these
    the share is None.
    """
    groups = completions.view(-1, num_generations)
    is_equal = groups[:, :, None] == groups[:, None, :]
    is_copy = is_equal.tril(diagonal=-1).any(dim=2)
    frac_distinct = 1 - is_copy.float().mean().item()
    if logps is None:
        return frac_distinct, None
    return frac_distinct, (is_copy & (logps.view_as(groups) < IMPROBABLE)).float().mean().item()


def count_corrected(
    scored: dict[str, torch.Tensor], is_trained: torch.Tensor, mode: str, lower: float | None, upper: float | None
) -> torch.Tensor:
    r"""
    Trained tokens whose importance ratio was out of bounds (None: unbounded), and all trained tokens, `(2,)`.

    The ratio is $\pi_{\mathrm{trainer}} / \pi_{\mathrm{vLLM}}$ of a token, or in the modes `sequence_*` of
    `vllm_importance_sampling_mode` its product over the sequence; 1 where vLLM's log-probability is NaN.
    """
    difference = scored["old_per_token_logps"] - scored["sampling_per_token_logps"]  # (B, T)
    difference = (difference * is_trained).nan_to_num(nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(dim=1, keepdim=True).expand_as(difference)
    ratio = difference.exp()
    is_out = torch.zeros_like(is_trained)
    if lower is not None:
        is_out |= ratio < lower
    if upper is not None:
        is_out |= ratio > upper
    return torch.stack([(is_out & is_trained).sum(), is_trained.sum()])


# Rewards: `rewards_per_func` is `(P * G, F)` of all rows, groups contiguous, NaN where a function does not apply;
# `weights` is `(F,)`.


def total_rewards(rewards_per_func: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the rewards of each row; NaN where no function applies."""
    total = (rewards_per_func * weights.to(rewards_per_func.device)).nansum(dim=1)
    return total.masked_fill(torch.isnan(rewards_per_func).all(dim=1), torch.nan)


def reward_metrics(
    rewards_per_func: torch.Tensor, weights: torch.Tensor, names: list[str], num_generations: int
) -> dict[str, float]:
    """TRL's: `reward`, `reward_std`, `frac_reward_zero_std`, `rewards/<name>/mean` and `rewards/<name>/std`."""
    metrics = {}
    for i, name in enumerate(names):
        metrics[f"rewards/{name}/mean"] = torch.nanmean(rewards_per_func[:, i]).item()
        metrics[f"rewards/{name}/std"] = nanstd(rewards_per_func[:, i]).item()
    total = total_rewards(rewards_per_func, weights)
    metrics["reward"] = torch.nanmean(total).item()
    metrics["reward_std"] = nanstd(total).item()
    groups = total.view(-1, num_generations)
    is_constant = ~_varies(groups)
    is_constant &= (~torch.isnan(groups)).sum(dim=1) > 1  # one value alone has no deviation
    metrics["frac_reward_zero_std"] = is_constant.float().mean().item()
    return metrics


def _varies(groups: torch.Tensor) -> torch.Tensor:
    """`(P,)`: whether a group has two different values that are not NaN."""
    return groups.nan_to_num(-torch.inf).amax(dim=1) > groups.nan_to_num(torch.inf).amin(dim=1)


def only_value(values: torch.Tensor) -> float | None:
    """The value that all elements have which are not NaN; None if they differ, or there is none."""
    values = values[~values.isnan()]
    return values[0].item() if len(values) and values.max() == values.min() else None


def why_no_signal(
    rewards_per_func: torch.Tensor, weights: torch.Tensor, num_generations: int, num_tokens: float
) -> str | None:
    """Why a rollout with that many tokens to train on can teach nothing, as a sentence; None if it can."""
    total = total_rewards(rewards_per_func, weights)
    if total.isnan().all():
        return (
            "In the last rollout no reward function scored any completion, all returned None (or NaN): check the "
            "reference answers and the columns that the reward functions need."
        )
    if not _varies(total.view(-1, num_generations)).any():
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


def constant_value(rewards_per_func: torch.Tensor, weights: torch.Tensor, column: int) -> float | None:
    """The value of a filter reward that never varies although the total reward does: a sign of a broken reward."""
    is_constant = only_value(total_rewards(rewards_per_func, weights)) is not None
    return None if is_constant else only_value(rewards_per_func[:, column])
