"""What is measured of a rollout: groups, rewards, lengths, seconds, tokens, and what its micro-batches recorded."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from trl import GRPOTrainer

from ..batching.padding import loss_mask
from ..batching.rollout import RolloutPlan
from ..config import DAPOConfig
from ..distributed.all_to_all import all_to_all
from ..sampling.collection import CollectedBatch, Collection, merge_completion_metrics
from ..sampling.groups import Outcome, outcome_shares
from ..sampling.refill import GroupPool, Hints
from .completions_table import append_dropped, mask_table, remove_last, reset_table
from .filter_rewards import FilterRewards
from .metrics import (
    MeanProbability,
    MicroBatchMetrics,
    count_copies,
    count_corrected,
    only_value,
    reward_metrics,
    why_no_signal,
)
from .timer import PhaseTimer


class RolloutMonitor:
    """Writes the metrics of a rollout to the trainer's own, on every process, and completes its table."""

    def __init__(
        self,
        trainer: GRPOTrainer,
        args: DAPOConfig,
        filter_rewards: FilterRewards,
        overlong_column: int | None = None,
    ):
        self._args = args
        self._accelerator: Accelerator = trainer.accelerator
        self._all_metrics = trainer._metrics
        self._table = trainer._logs
        self._reward_names, self._reward_weights = trainer.reward_func_names, trainer.reward_weights
        self._filter_rewards = filter_rewards
        self._overlong_column = overlong_column
        self.timer = PhaseTimer()
        self.reset()
        self.last_reason: str | None = None  # before the first run

    def reset(self) -> None:
        """Before a run: nothing has been measured, and the table is empty."""
        for metrics in self._all_metrics.values():
            metrics.clear()
        reset_table(self._table, self._args.generation_batch_size)
        self.has_learnt = False
        self.last_reason = "No rollout was made."
        self._micro_batches = MicroBatchMetrics()
        self._mean_probability = MeanProbability()
        self._num_generated_tokens = self._num_trained_tokens = 0.0

    @property
    def reason_untrained(self) -> str | None:
        """Why this run has trained nothing, if no rollout so far had a gradient."""
        return None if self.has_learnt else self.last_reason

    @property
    def _metrics(self) -> dict[str, list[float]]:
        return self._all_metrics["train"]

    @contextlib.contextmanager
    def recording(self) -> Iterator[dict[str, list[float]]]:
        """What TRL records inside goes into the dict, not into the log."""
        kept: Any = self._metrics
        recorded: defaultdict[str, list[float]] = defaultdict(list)
        self._all_metrics["train"] = recorded
        try:
            yield recorded
        finally:
            self._all_metrics["train"] = kept

    # Generation

    def record_generation(self, completion_ids: list[list[int]], logprobs: list[list[float]] | None) -> None:
        """How many tokens a call has generated, and how many completions repeat another one of their group."""
        mean_length = self._metrics["completions/mean_length"][-1]
        self._num_generated_tokens += mean_length * len(completion_ids) * self._accelerator.num_processes
        hashes = torch.tensor([hash(tuple(ids)) for ids in completion_ids], device=self._accelerator.device)
        hashes, logps = self._accelerator.gather(hashes), None
        # Only these are of the distribution that was sampled from, whatever temperature and top_p are.
        if self._args.use_vllm and self._args.vllm_importance_sampling_correction and logprobs is not None:
            logps = torch.tensor([sum(logp or 0.0 for logp in row) for row in logprobs], dtype=torch.float32)
            logps = self._accelerator.gather(logps.to(self._accelerator.device))
        frac_distinct, frac_copied = count_copies(hashes, logps, self._args.num_generations)
        self._metrics["completions/frac_distinct"].append(frac_distinct)
        if frac_copied is not None:
            self._metrics["completions/frac_copied"].append(frac_copied)

    def take_lengths(self, recorded: dict[str, list[float]]) -> dict[str, float]:
        """The `completions/*` metrics of one generation call; what else TRL recorded in it goes into the log."""
        lengths = {name: values[-1] for name, values in recorded.items() if name.startswith("completions/")}
        self._metrics.update({name: recorded[name] for name in recorded.keys() - lengths.keys()})
        return lengths

    # Groups, rewards and lengths

    def record_groups(self, rewards_per_func: torch.Tensor, completion_ids: list[list[int]]) -> None:
        """Without dynamic sampling: what it would have said of the groups, by all rewards and this process's rows."""
        self._record_overlong(rewards_per_func)
        if not self._filter_rewards.columns:
            return
        self._filter_rewards.warn(rewards_per_func)
        outcomes = self._filter_rewards.outcomes(rewards_per_func)
        for name, value in outcome_shares(outcomes, self._filter_rewards.threshold is not None).items():
            self._metrics[f"dynamic_sampling/{name}"].append(value)
        first = self._accelerator.process_index * len(completion_ids)
        lengths = {first + i: len(ids) for i, ids in enumerate(completion_ids)}
        accepted = [outcomes[number // self._args.num_generations] is Outcome.INFORMATIVE for number in lengths]
        self._record_lengths(rewards_per_func, lengths, accepted)

    def record_collection(self, pool: GroupPool, collection: Collection, epoch: float) -> None:
        """Rewards and lengths of all generated rows, where TRL saw the kept ones only; how they were found."""
        metrics, rewards = self._metrics, collection.rewards_per_func()
        metrics["dynamic_sampling/trained_reward"].append(metrics["reward"][-1])
        num_generations = self._args.num_generations
        generated = reward_metrics(rewards, self._reward_weights, self._reward_names, num_generations)
        for name, value in generated.items():
            metrics[name][-1] = value
        for name, value in merge_completion_metrics(collection.calls).items():
            metrics[name].append(value)
        for name, value in pool.metrics(self._filter_rewards.threshold is not None).items():
            metrics[f"dynamic_sampling/{name}"].append(value)
        metrics["dynamic_sampling/epoch"] = [epoch]
        self._record_overlong(rewards)
        accepted = [collection.status(number, pool) == "kept" for number in collection.lengths]
        self._record_lengths(rewards, collection.lengths, accepted)

    def inspect(self, collection: Collection) -> Hints:
        """Warns of rewards that look broken; returns what a shortage is to say beside the outcomes of the groups."""
        if not collection.rewards:
            return Hints()
        rewards = collection.rewards_per_func()
        self._filter_rewards.warn(rewards)
        constant = only_value(self._filter_rewards.values(rewards))
        return Hints(constant, merge_completion_metrics(collection.calls)["completions/clipped_ratio"])

    def _record_overlong(self, rewards_per_func: torch.Tensor) -> None:
        if self._overlong_column is not None:
            frac = (rewards_per_func[:, self._overlong_column] < 0).float().mean().item()
            self._metrics["overlong/frac_penalized"].append(frac)

    def _record_lengths(
        self, rewards_per_func: torch.Tensor, lengths: dict[int, int], is_accepted: list[bool]
    ) -> None:
        """The length-bias meter: mean lengths of accepted and of correct completions, beside that of all."""
        metrics, threshold = self._metrics, self._filter_rewards.threshold
        values = self._filter_rewards.values(rewards_per_func)
        scored = values[~values.isnan()]
        if len(scored) and threshold is not None:
            metrics["frac_correct"].append((scored > threshold).float().mean().item())
        tokens = torch.tensor(list(lengths.values()), dtype=torch.float64)
        masks = {"accepted": torch.tensor(is_accepted, dtype=torch.bool)}
        if threshold is not None:
            masks["correct"] = values.cpu()[list(lengths)] > threshold
        sums = torch.stack([torch.stack([tokens[mask].sum(), mask.sum()]) for mask in masks.values()])
        sums = self._accelerator.reduce(sums.float().to(self._accelerator.device), reduction="sum")
        for name, (total, count) in zip(masks, sums.tolist(), strict=True):
            if count:
                metrics[f"completions/mean_{name}_length"].append(total / count)

    # What is trained on

    def record_scored(
        self, scored: dict[str, Any], rewards: torch.Tensor, batch: CollectedBatch | None = None
    ) -> None:
        """Takes what goes into training: this process's rows as TRL returns them, and all processes' rewards."""
        num_tokens = scored["num_items_in_batch"].item()
        self._num_trained_tokens += num_tokens * self._args.num_iterations
        num_tokens -= batch.num_padding_rows if batch else 0  # each is a token
        reason = why_no_signal(rewards, self._reward_weights, self._args.num_generations, num_tokens)
        self.has_learnt |= reason is None
        self.last_reason = reason or self.last_reason
        if self._args.use_vllm and self._args.vllm_importance_sampling_correction:
            self._record_correction(scored, batch.num_rows if batch else None)

    def _record_correction(self, scored: dict[str, torch.Tensor], num_rows: int | None) -> None:
        """How many of the trained tokens have an importance ratio out of bounds."""
        is_trained = loss_mask(scored).bool()
        if num_rows is not None:
            first_row = self._accelerator.process_index * len(is_trained)
            is_trained[max(0, num_rows - first_row) :] = False  # padding rows
        args = self._args
        bounds = args.vllm_importance_sampling_clip_min, args.vllm_importance_sampling_clip_max
        counts = count_corrected(scored, is_trained, args.vllm_importance_sampling_mode, *bounds)
        counts = self._accelerator.reduce(counts.to(self._accelerator.device), reduction="sum")
        corrected, trained = counts.tolist()
        self._metrics["sampling/frac_corrected"].append(corrected / max(1, trained))

    def record_padding(self, plan: RolloutPlan) -> None:
        """How much of a rollout's computation goes into padding."""
        for name, value in plan.padding_metrics().items():
            self._metrics[f"padding/{name}"].append(value)

    def record_loss(self, recorded: dict[str, list[float]], num_trained_tokens: int) -> None:
        """What TRL recorded in the loss of one micro-batch, with the tokens it is a mean of, on all processes."""
        self._micro_batches.add(recorded, num_trained_tokens)
        for name, values in recorded.items():
            self._metrics[name].extend(values)

    def record_probabilities(self, logps: torch.Tensor, mask: torch.Tensor) -> None:
        """`(B, T)` log-probabilities of a micro-batch under the policy that is trained, and which tokens count."""
        self._mean_probability.add(logps, mask)

    # When an optimizer step, or a rollout, is done

    def flush_micro_batches(self) -> None:
        """What was recorded since the last time, before it is logged."""
        for name, value in self._micro_batches.flush().items():
            self._metrics[name] = [value]

    def flush_mean_probability(self) -> None:
        self._metrics["mean_probability"].append(self._mean_probability.flush(self._accelerator))

    def flush_rollout(self) -> None:
        """What is known only when the rollout has been trained on: seconds and rates."""
        seconds = self.timer.flush()
        for phase, value in seconds.items():
            self._metrics[f"time/{phase}"].append(value)
        rates = {
            "generation": (self._num_generated_tokens, seconds["generation"]),
            "training": (self._num_trained_tokens, seconds["training"]),
            "rollout": (self._num_generated_tokens, seconds["rollout"]),
        }
        for name, (num_tokens, duration) in rates.items():
            if num_tokens and duration:
                self._metrics[f"tokens_per_second/{name}"].append(num_tokens / duration)
        self._num_generated_tokens = self._num_trained_tokens = 0.0

    # The table of completions

    def make_room(self, num_rows: int) -> None:
        """For all rows of a rollout, those that are dropped, too."""
        if self._args.log_completions:
            reset_table(self._table, num_rows)

    def complete_table(self, pool: GroupPool, collection: Collection, num_padding_rows: int) -> None:
        """The main process gets the dropped rows for the table."""
        if not self._args.log_completions:
            return
        nobody_else: list[list] = [[] for _ in range(self._accelerator.num_processes - 1)]
        rows = all_to_all([collection.dropped(pool), *nobody_else], self._accelerator)
        if self._accelerator.is_main_process:
            remove_last(self._table, num_padding_rows)
            rows = sorted(rows, key=lambda item: item[0])
            append_dropped(self._table, rows, collection.rewards_per_func(), self._reward_names)

    def mask_table(self) -> None:
        """Takes secrets out of the table before it is written."""
        if self._args.log_completions and self._accelerator.is_main_process:
            mask_table(self._table)
