"""Evaluations by the trainer: avg@k with its interval, and means over all rows instead of means of batch means."""

import math

import torch

from ..checks.returned_rewards import RewardValueError
from ..config import DAPOConfig
from ..sampling.collection import merge_completion_metrics
from .filter_rewards import FilterRewards
from .metrics import means_of_numbers, reward_metrics


class EvaluationRecord:
    """The rewards of one evaluation, batch by batch; k is `num_generations_eval`."""

    def __init__(self, args: DAPOConfig, filter_rewards: FilterRewards, weights: torch.Tensor):
        self._args = args
        self._filter_rewards = filter_rewards
        self._weights = weights
        self._batches: list[torch.Tensor] = []

    def add(self, rewards_per_func: torch.Tensor) -> None:
        """Takes the rewards `(B, F)` of one batch of all processes, the completions of a problem together."""
        self._batches.append(rewards_per_func)

    def finish(self, recorded: dict[str, list[float]], num_problems: int | None, prefix: str) -> dict[str, float]:
        """
        Metrics over the whole data set, to be added to TRL's, without the prefix that tells data sets apart.

        What TRL `recorded` batch by batch is replaced by means of all rows; rows beyond `num_problems` are
        repetitions.

        Raises:
            RewardValueError: if the metric that decides which checkpoint is the best cannot be computed.
        """
        metrics = {}
        if self._batches:
            if self._filter_rewards.columns:
                metrics = self._accuracy(num_problems)
            self._replace_means(recorded, num_problems)
        self._check_best_metric(metrics, prefix)
        if prefix != "eval":  # TRL's own metrics of named sets would overwrite each other
            metrics |= means_of_numbers(recorded)
        return metrics

    def _accuracy(self, num_problems: int | None) -> dict[str, float]:
        values = torch.cat([self._filter_rewards.values(batch) for batch in self._batches]).float().cpu()
        groups = values.view(-1, self._args.num_generations_eval)[:num_problems]
        return accuracy_metrics(groups, self._filter_rewards.threshold)

    def _replace_means(self, recorded: dict[str, list[float]], num_problems: int | None) -> None:
        """The lengths still count rows that are repeated."""
        k, num_functions = self._args.num_generations_eval, len(self._weights)
        rewards = torch.cat(self._batches).view(-1, k, num_functions)[:num_problems]
        whole = reward_metrics(rewards.flatten(0, 1), self._weights, self._filter_rewards.names, k)
        if k == 1:
            del whole["frac_reward_zero_std"]  # TRL's: a single completion does not deviate
        num_rows = [len(batch) for batch in self._batches]
        lengths = {
            name: values
            for name, values in recorded.items()
            if name.startswith("completions/") and len(values) == len(num_rows)
        }
        batches = [{name: values[i] for name, values in lengths.items()} for i in range(len(num_rows))]
        whole |= merge_completion_metrics(list(zip(num_rows, batches, strict=True)))
        recorded.update({name: [value] for name, value in whole.items()})

    def _check_best_metric(self, metrics: dict[str, float], prefix: str) -> None:
        """No accuracy without a problem that can be scored: what is best by it cannot be told."""
        best = f"eval_{(self._args.metric_for_best_model or '').removeprefix('eval_')}"
        name = f"avg@{self._args.num_generations_eval}"
        if self._args.load_best_model_at_end and best == f"{prefix}_{name}" and name not in metrics:
            names = [self._filter_rewards.names[column] for column in self._filter_rewards.columns]
            raise RewardValueError(
                f"metric_for_best_model={self._args.metric_for_best_model!r} is unknown: the filter rewards {names} "
                "return None for some completion of every problem of the evaluation data. List the rewards that score "
                "them in dynamic_sampling_metric, or set metric_for_best_model to 'eval_reward'."
            )


def accuracy_metrics(groups: torch.Tensor, threshold: float | None = 0.0) -> dict[str, float]:
    """
    `avg@<k>` and its 95% interval over problems (see [`~dapo_trl.evaluation.statistics.estimate`]).

    Takes the filter reward of each completion, `(N, k)`. A problem with a completion that cannot be scored (NaN) is
    left out and counted in `num_unscorable`. A single problem has no interval; without a threshold there is no avg@k.
    """
    from ..evaluation.statistics import average_at_k, estimate  # with SciPy, which only evaluations need

    is_scorable = ~groups.isnan().any(dim=1)
    metrics = {"num_unscorable": float((~is_scorable).sum())}
    if not is_scorable.any() or threshold is None:
        return metrics
    accuracy = estimate(average_at_k((groups[is_scorable] > threshold).numpy()))
    name = f"avg@{groups.size(1)}"
    interval = {f"{name}_low": accuracy.low, f"{name}_high": accuracy.high}
    metrics[name] = accuracy.mean
    return metrics | {name: value for name, value in interval.items() if not math.isnan(value)}
