"""GRPOTrainer that tells what a run does: metrics of rollouts, evaluation, alarms."""

import math
from typing import Any

import torch
from accelerate.logging import get_logger

from .batching import loss_mask
from .checks.returned_rewards import ReturnedValues, RewardValueError, check_rewards
from .distributed.all_to_all import all_to_all
from .exact_trainer import ExactGRPOTrainer
from .generation.vllm import ReleaseCallback, ServerError, count_corrected, score_text, usual_difference
from .monitoring import (
    AlarmCallback,
    AlarmError,
    EvaluatedGroups,
    MetricsFileCallback,
    PhaseCallback,
    RunLengthCallback,
    WeightsCallback,
    default_alarms,
    non_finite_step,
    show_rollouts,
)
from .monitoring.completions_table import append_dropped, length_columns, remove_last
from .monitoring.metrics import (
    MeanProbability,
    constant_value,
    count_copies,
    means_of_numbers,
    merge_completion_metrics,
    reward_metrics,
    why_no_signal,
)
from .run.preemption import PreemptedError
from .run.random_state import get_random_state, set_random_state
from .sampling import GroupPool, Outcome, deciding_values, group_outcomes, is_graded, outcome_shares
from .sampling.collection import Collection


logger = get_logger(__name__)

MANY_UNSCORED = 0.1
"""Share of completions without a deciding value from which on other functions are looked at."""


class MonitoredGRPOTrainer(ExactGRPOTrainer):
    """
    [`ExactGRPOTrainer`] with what operators and the paper's Fig. 7 watch. [`DAPOTrainer`] lists what is overridden.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._deciding_rewards: list[int] = []
        self._is_warned_of_unscored = self._is_warned_of_overlap = False
        self._overlong_reward: int | None = None
        self._is_graded = False
        self._warned_of_nan: set[int] = set()
        self._last_reason_untrained: str | None = None
        self._generated_rewards: torch.Tensor | None = None
        self._evaluated: EvaluatedGroups | None = None
        self._evaluated_rewards: list[torch.Tensor] = []
        self._mean_probability = MeanProbability()
        self._loss_logps: torch.Tensor | None = None
        self._num_generated_tokens = self._num_trained_tokens = 0.0
        self._step_loss: torch.Tensor | float = 0.0  # of the optimizer step so far, on this process
        self._num_overflows = 0
        if self.use_vllm:
            generation = self.vllm_generation
            generation.sync_weights = self.phases.measure("weight_sync")(generation.sync_weights)
            generation.score = lambda ids: score_text(self.model, self.accelerator, ids)
            self.add_callback(ReleaseCallback(generation.release))
        steps = self.args.optimizer_steps_per_rollout
        alarms = default_alarms(
            steps, self.args.learning_rate, usual_difference(self.model, self.accelerator.mixed_precision)
        )
        self._alarms = AlarmCallback(alarms, steps)
        self._weights = WeightsCallback(self.accelerator, steps)
        for callback in (
            self._weights,
            RunLengthCallback(),
            PhaseCallback(self.phases, steps, self._record_mean_probability, self._record_rollout_end),
            MetricsFileCallback(steps),
            self._alarms,
        ):
            self.add_callback(callback)
        show_rollouts(self.callback_handler, steps)

    def _begin_afresh(self):
        super()._begin_afresh()
        self._evaluated = self._loss_logps = self._generated_rewards = None
        self._last_reason_untrained = "No rollout was made."
        self._mean_probability = MeanProbability()
        self._num_generated_tokens = self._num_trained_tokens = self._step_loss = 0.0
        self._num_overflows = 0
        self._is_warned_of_unscored = self._is_warned_of_overlap = False
        self._warned_of_nan.clear()

    def _prepare_inputs(self, generation_batch):
        is_new_rollout = self.model.training and self._step % self._micro_steps_per_rollout == 0
        if is_new_rollout and self.args.on_alarm == "stop":
            self._alarms.stop_if_raised(self.accelerator)
        return super()._prepare_inputs(generation_batch)

    # Seconds and tokens of a rollout

    def _generate(self, prompts):
        if not self.model.training:
            return super()._generate(prompts)
        with self.phases.measure("generation"):
            generation = super()._generate(prompts)
        self._record_copies(completion_ids=generation[1], logprobs=generation[4])
        mean_length = self._metrics["train"]["completions/mean_length"][-1]
        self._num_generated_tokens += mean_length * len(prompts) * self.accelerator.num_processes
        return generation

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            if self.is_in_train:
                self._stop_if_preempted()
            return super()._generate_and_score_completions(inputs)
        with self.phases.measure("log_probs"):  # what generation and scoring leave of it
            scored = super()._generate_and_score_completions(inputs)
        self._num_trained_tokens += scored["num_items_in_batch"].item() * self.num_iterations
        return scored

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        if self.log_completions:
            end_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}
            self._pending_extra_logs.update(length_columns(completion_ids_list, end_ids))
        if not self.model.training:
            rewards = self._checked_rewards(inputs, prompts, completions, completion_ids_list)
            if self._evaluated is not None:
                self._evaluated_rewards.append(rewards)
                if self._deciding_rewards:
                    self._evaluated.add(deciding_values(rewards, self._deciding_rewards))
            return rewards
        with self.phases.measure("scoring"):
            rewards = self._checked_rewards(inputs, prompts, completions, completion_ids_list)
        if not self.args.dynamic_sampling:
            self._generated_rewards = rewards
            self._record_overlong(rewards)
            self._record_groups(rewards, completion_ids_list)
        return rewards

    def _checked_rewards(self, inputs, prompts, completions, completion_ids_list) -> torch.Tensor:
        """The parent's rewards of all processes' rows; refused if training could not use them."""
        num_generations = self.num_generations if self.model.training else self.num_generations_eval
        first_row = self.accelerator.process_index * len(prompts)
        returned = ReturnedValues(first_row, len(prompts), num_generations)
        with returned.watch(self):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        is_sum = self.multi_objective_aggregation == "sum_then_normalize"
        rows = list(zip(prompts, completions, strict=True))
        check_rewards(rewards, self.reward_weights if is_sum else None, returned, self.reward_func_names, rows)
        self._warn_of_nan(rewards, returned)
        self._notice_grades(rewards)
        return rewards

    @property
    def _correct_threshold(self) -> float | None:
        """Above which deciding reward a completion is correct; None if that is not known."""
        if self.args.correct_threshold is not None:
            return self.args.correct_threshold
        return None if self._is_graded else 0.0

    def _notice_grades(self, rewards_per_func: torch.Tensor) -> None:
        """From the first graded values on, no accuracy is reported, unless it is said where right begins."""
        if self._is_graded or self.args.correct_threshold is not None:
            return
        left = torch.ones(len(rewards_per_func), dtype=torch.bool, device=rewards_per_func.device)
        for index in self._deciding_rewards:
            decides = left & ~rewards_per_func[:, index].isnan()
            left &= ~decides
            values = rewards_per_func[decides, index]
            if not is_graded(values):
                continue
            self._is_graded = True
            some = ", ".join(f"{value:.6g}" for value in values.unique().tolist()[:4])
            message = (
                f"The deciding reward {self.reward_func_names[index]!r} is graded ({some}, ...): it does not say what "
                "is correct. Set correct_threshold: completions whose deciding reward is above it are correct (0.0, "
                "if all of them above zero are)."
            )
            if self.args.load_best_model_at_end and "avg@" in (self.args.metric_for_best_model or ""):
                raise RewardValueError(
                    f"metric_for_best_model={self.args.metric_for_best_model!r} cannot be computed. {message} Or set "
                    "metric_for_best_model to 'eval_reward'."
                )
            logger.warning(
                f"{message} Until then frac_correct, avg@k and the other metrics of correctness are left out; "
                "training is the same."
            )
            return

    def _warn_of_nan(self, rewards: torch.Tensor, returned: ReturnedValues) -> None:
        """NaN counts as None, as in TRL, but may be an accident: once for each function, where it happens."""
        models = {i for i, function in enumerate(self.reward_funcs) if isinstance(function, torch.nn.Module)}
        with_nan = returned.with_nan | {i for i in models if rewards[:, i].isnan().any()}
        for index in with_nan - self._warned_of_nan:
            logger.warning(
                f"The reward function {self.reward_func_names[index]!r} returned NaN. It counts as None: a completion "
                "that cannot be scored. Return None to say so without this warning, and otherwise look for a division "
                "by zero or an overflow.",
                main_process_only=False,
            )
        self._warned_of_nan |= with_nan

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._loss_logps = scores[0].detach()
        return scores

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        if self.model.training:
            self._mean_probability.add(self._loss_logps, loss_mask(inputs))
            self._step_loss = self._step_loss + loss.detach()
            if self.is_deepspeed_enabled and not self.args.fp16:
                # DeepSpeed takes the step at the end of the backward pass, so that it cannot be left out later.
                self._check_step(grad_norm=None)
        self._loss_logps = None
        return loss

    # Losses and gradients that are no numbers

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if not self._check_step(grad_norm):
            model.zero_grad()  # an optimizer passes over weights without gradient
        self._step_loss = 0.0
        return grad_norm

    def _check_step(self, grad_norm: torch.Tensor | float | None) -> bool:
        """Whether loss and gradient of an optimizer step, all processes together, are finite; else an alarm."""
        loss = torch.as_tensor(self._step_loss, dtype=torch.float32, device=self.accelerator.device)
        loss = self.accelerator.reduce(loss, reduction="sum").item()
        grad_norm = None if grad_norm is None else float(grad_norm)
        is_overflow = self.args.fp16 and grad_norm is not None and not math.isfinite(grad_norm)
        self._num_overflows = self._num_overflows + 1 if is_overflow else 0
        found = non_finite_step(self.state.global_step + 1, loss, grad_norm, self._num_overflows)
        if found is None:
            return True
        self._step_loss = 0.0
        name, message = found
        self._alarms.raise_now(name, message, self.state.global_step)
        if self.is_deepspeed_enabled and grad_norm is not None:
            # The step has been taken, unless DeepSpeed has left it out.
            self._weights.check(self.model, self.state.global_step + 1, self.args.output_dir)
        elif self.args.on_alarm == "stop" or self.is_deepspeed_enabled:
            raise AlarmError(message)
        return False

    def _record_mean_probability(self) -> None:
        self._metrics["train"]["mean_probability"].append(self._mean_probability.flush(self.accelerator))

    def _record_rollout_end(self) -> None:
        """What is known only when the rollout has been trained on."""
        metrics, seconds = self._metrics["train"], self.phases.flush()
        for phase, value in seconds.items():
            metrics[f"time/{phase}"].append(value)
        rates = {
            "generation": (self._num_generated_tokens, seconds["generation"]),
            "training": (self._num_trained_tokens, seconds["training"]),
            "rollout": (self._num_generated_tokens, seconds["rollout"]),
        }
        for name, (num_tokens, duration) in rates.items():
            if num_tokens and duration:
                metrics[f"tokens_per_second/{name}"].append(num_tokens / duration)
        self._num_generated_tokens = self._num_trained_tokens = 0.0

    # Rewards and lengths

    def _record_collection(self, pool: GroupPool, collection: Collection) -> None:
        """Rewards and lengths of all generated rows, where the parent saw the kept ones only; how they were found."""
        metrics, rewards = self._metrics["train"], collection.rewards_per_func()
        metrics["dynamic_sampling/trained_reward"].append(metrics["reward"][-1])
        generated = reward_metrics(rewards, self.reward_weights, self.reward_func_names, self.num_generations)
        for name, value in generated.items():
            metrics[name][-1] = value
        for name, value in collection.completion_metrics().items():
            metrics[name].append(value)
        for name, value in pool.metrics(self._correct_threshold is not None).items():
            metrics[f"dynamic_sampling/{name}"].append(value)
        self._record_overlong(rewards)
        is_kept = [collection.fate(number, pool) == "kept" for number in collection.lengths]
        self._record_lengths(deciding_values(rewards, self._deciding_rewards), collection.lengths, is_kept)

    def _record_groups(self, rewards_per_func: torch.Tensor, completion_ids: list[list[int]]) -> None:
        """Without dynamic sampling: what it would have said of the groups."""
        if not self._deciding_rewards:
            return
        self._warn_of_deciding_rewards(rewards_per_func)
        deciding = deciding_values(rewards_per_func, self._deciding_rewards)
        outcomes = group_outcomes(deciding.view(-1, self.num_generations), self._correct_threshold)
        for name, value in outcome_shares(outcomes, self._correct_threshold is not None).items():
            self._metrics["train"][f"dynamic_sampling/{name}"].append(value)
        first = self.accelerator.process_index * len(completion_ids)
        lengths = {first + i: len(ids) for i, ids in enumerate(completion_ids)}
        is_informative = [outcomes[number // self.num_generations] is Outcome.INFORMATIVE for number in lengths]
        self._record_lengths(deciding, lengths, is_informative)

    def _record_lengths(self, deciding: torch.Tensor, lengths: dict[int, int], is_accepted: list[bool]) -> None:
        """
        The length-bias meter: mean lengths of accepted and of correct completions, beside that of all.

        Args:
            deciding (`torch.Tensor` of shape `(P * G,)`): deciding value of all processes' rows.
            lengths (`dict[int, int]`): tokens of this process's rows, by number.
            is_accepted (`list[bool]`): for each of `lengths`, whether its group is trained on.
        """
        metrics, device = self._metrics["train"], self.accelerator.device
        threshold, scored = self._correct_threshold, deciding[~deciding.isnan()]
        if len(scored) and threshold is not None:
            metrics["frac_correct"].append((scored > threshold).float().mean().item())
        tokens = torch.tensor(list(lengths.values()), dtype=torch.float64)
        masks = {"accepted": torch.tensor(is_accepted, dtype=torch.bool)}
        if threshold is not None:
            masks["correct"] = deciding.cpu()[list(lengths)] > threshold
        sums = torch.stack([torch.stack([tokens[mask].sum(), mask.sum()]) for mask in masks.values()])
        sums = self.accelerator.reduce(sums.float().to(device), reduction="sum").tolist()
        for name, (total, count) in zip(masks, sums, strict=True):
            if count:
                metrics[f"completions/mean_{name}_length"].append(total / count)

    @property
    def reason_untrained(self) -> str | None:
        """Why this run has trained nothing, if no rollout so far had a gradient; else, and before the first, None."""
        return None if self._has_learnt else self._last_reason_untrained

    def _note_training(self, rewards_per_func: torch.Tensor, num_tokens: float) -> None:
        """Takes the rewards of all rows of a rollout that are to be trained on, and the number of their tokens."""
        reason = why_no_signal(rewards_per_func, self.reward_weights, self.num_generations, num_tokens)
        if reason is None:
            self._has_learnt = True
        else:
            self._last_reason_untrained = reason

    def _record_correction(self, scored: dict[str, torch.Tensor]) -> None:
        """How many of the trained tokens have an importance ratio out of bounds."""
        is_trained = loss_mask(scored).bool()
        if self._num_rows_to_train is not None:
            first_row = self.accelerator.process_index * len(is_trained)
            is_trained[max(0, self._num_rows_to_train - first_row) :] = False  # fillers
        counts = count_corrected(
            scored,
            is_trained,
            self.vllm_importance_sampling_mode,
            self.vllm_importance_sampling_clip_min,
            self.vllm_importance_sampling_clip_max,
        )
        corrected, trained = self.accelerator.reduce(counts.to(self.accelerator.device), reduction="sum").tolist()
        self._metrics["train"]["sampling/frac_corrected"].append(corrected / max(1, trained))

    def _record_copies(self, completion_ids: list[list[int]], logprobs: list[list[float]] | None) -> None:
        """How many completions of this call repeat another one of their group."""
        hashes = torch.tensor([hash(tuple(ids)) for ids in completion_ids], device=self.accelerator.device)
        hashes, logps = self.accelerator.gather(hashes), None
        # Only these are of the distribution that was sampled from, whatever temperature and top_p are.
        if self.use_vllm and self.vllm_importance_sampling_correction and logprobs is not None:
            logps = torch.tensor([sum(logp or 0.0 for logp in row) for row in logprobs], dtype=torch.float32)
            logps = self.accelerator.gather(logps.to(self.accelerator.device))
        frac_distinct, frac_copied = count_copies(hashes, logps, self.num_generations)
        self._metrics["train"]["completions/frac_distinct"].append(frac_distinct)
        if frac_copied is not None:
            self._metrics["train"]["completions/frac_copied"].append(frac_copied)

    def _record_overlong(self, rewards_per_func: torch.Tensor) -> None:
        if self._overlong_reward is not None:
            frac = (rewards_per_func[:, self._overlong_reward] < 0).float().mean().item()
            self._metrics["train"]["overlong/frac_penalized"].append(frac)

    def _warn_of_deciding_rewards(self, rewards_per_func: torch.Tensor) -> None:
        """Signs that a reward which decides is broken, or that another one should decide as well."""
        for index in self._deciding_rewards:
            others = [other for other in self._deciding_rewards if other != index]
            is_own_task = rewards_per_func[:, others].isnan().all(dim=1)
            value = constant_value(rewards_per_func[is_own_task], self.reward_weights, index)
            if value is not None and self.args.dynamic_sampling:
                logger.warning(
                    f"The deciding reward {self.reward_func_names[index]!r} is {value} for all completions of this "
                    f"rollout{' that it scores' if others else ''}, while the total reward is not constant: there is "
                    "no group to train on. Check that this reward reads the model's answers, and that "
                    "dynamic_sampling_metric names the right one."
                )
        self._warn_of_unscored(rewards_per_func)
        self._warn_of_overlap(rewards_per_func)

    def _warn_of_unscored(self, rewards_per_func: torch.Tensor) -> None:
        """Once: rows without a deciding value that other functions score."""
        is_missing = deciding_values(rewards_per_func, self._deciding_rewards).isnan()
        share = is_missing.float().mean().item()
        if self._is_warned_of_unscored or share <= MANY_UNSCORED:
            return
        tasks = [index for index in range(len(self.reward_funcs)) if index != self._overlong_reward]
        is_scored = ~rewards_per_func[is_missing].isnan()
        others = [index for index in tasks if is_scored[:, index].any() and index not in self._deciding_rewards]
        if not others:
            return  # the alarm of unscorable groups says so
        self._is_warned_of_unscored = True
        names, deciding = ([self.reward_func_names[i] for i in group] for group in (others, self._deciding_rewards))
        logger.warning(
            f"The deciding rewards {deciding} return None for {share:.0%} of the completions of this rollout, which "
            f"makes their groups unscorable: with dynamic_sampling they are generated and dropped. {names} score "
            "them: if these say whether such a completion is right, let them decide as well (dynamic_sampling_metric: "
            f"[{', '.join([*deciding, *names])}])."
        )

    def _warn_of_overlap(self, rewards_per_func: torch.Tensor) -> None:
        """Once: rows that several deciding rewards score, where the order of their names counts."""
        is_scored = ~rewards_per_func[:, self._deciding_rewards].isnan()
        twice = is_scored.sum(dim=1) > 1
        if self._is_warned_of_overlap or not twice.any():
            return
        self._is_warned_of_overlap = True
        columns = is_scored[twice.nonzero()[0].item()].nonzero().flatten().tolist()
        first, *others = [self.reward_func_names[self._deciding_rewards[column]] for column in columns]
        logger.warning(
            f"Several deciding rewards score the same completion ({twice.float().mean().item():.0%} of this rollout): "
            f"{first!r} decides there, because dynamic_sampling_metric names it before {others}. Let each return None "
            "for the completions of other tasks, or name only the one that says whether a completion is right."
        )

    def _complete_table(self, pool: GroupPool, collection: Collection, num_fillers: int) -> None:
        """The main process gets the dropped rows for the completions table."""
        nobody_else = [[] for _ in range(self.accelerator.num_processes - 1)]
        rows = all_to_all([collection.dropped(pool), *nobody_else], self.accelerator)
        if self.accelerator.is_main_process:
            remove_last(self._logs, num_fillers)
            append_dropped(
                self._logs,
                sorted(rows, key=lambda item: item[0]),
                collection.rewards_per_func(),
                self.reward_func_names,
            )

    # Evaluation

    def evaluation_loop(self, dataloader, *args, metric_key_prefix: str = "eval", **kwargs) -> Any:
        """
        TRL's evaluation, with avg@k, and rewards and lengths over all rows: TRL's are means of the means of batches,
        of which the last may be smaller, or repeat rows so that all processes have equally many. Training goes on as
        if it had not taken place, unless it is TRL's own, whose random numbers are the next after those of the
        evaluation.
        """
        random_state = get_random_state()
        self._evaluated = EvaluatedGroups(self.num_generations_eval)
        try:
            output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
            num_problems = len(dataloader.dataset) if hasattr(dataloader.dataset, "__len__") else None
            metrics = self._evaluated.metrics(num_problems, self._correct_threshold)
            self._record_evaluation(num_problems)
            self._check_best_metric(metrics, metric_key_prefix)
        except (PreemptedError, RewardValueError, ServerError):
            self._metrics["eval"].clear()  # the log of the run's end is none of an evaluation
            raise
        finally:
            self._evaluated = None
            self._evaluated_rewards = []
            if self.is_in_train and self.args.owns_batches:
                set_random_state(random_state)
        if metric_key_prefix != "eval":  # TRL's own metrics of named sets would overwrite each other
            metrics |= means_of_numbers(self._metrics["eval"])
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def _record_evaluation(self, num_problems: int | None) -> None:
        """In place of what was recorded batch by batch; the lengths still count rows that are repeated."""
        if not self._evaluated_rewards:
            return
        recorded, num_generations = self._metrics["eval"], self.num_generations_eval
        rewards = torch.cat(self._evaluated_rewards).view(-1, num_generations, len(self.reward_funcs))[:num_problems]
        whole = reward_metrics(rewards.flatten(0, 1), self.reward_weights, self.reward_func_names, num_generations)
        if num_generations == 1:
            del whole["frac_reward_zero_std"]  # TRL's: a single completion does not deviate
        num_rows = [len(batch) for batch in self._evaluated_rewards]
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
        best = self.args.metric_for_best_model or ""
        best = best if best.startswith("eval_") else f"eval_{best}"
        name = f"avg@{self.num_generations_eval}"
        if self.args.load_best_model_at_end and best == f"{prefix}_{name}" and name not in metrics:
            names = [self.reward_func_names[index] for index in self._deciding_rewards]
            raise RewardValueError(
                f"metric_for_best_model={self.args.metric_for_best_model!r} is unknown: the deciding rewards {names} "
                "return None for some completion of every problem of the evaluation data. List the rewards that score "
                "them in dynamic_sampling_metric, or set metric_for_best_model to 'eval_reward'."
            )
