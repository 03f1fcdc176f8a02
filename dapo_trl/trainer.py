"""DAPOTrainer: Algorithm 1 of the DAPO paper on top of TRL's GRPOTrainer."""

import contextlib
import functools
from typing import Any

import torch
from accelerate.logging import get_logger
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from trl import GRPOTrainer

from .batching.batcher import RolloutBatcher
from .batching.log_probs import score_in_chunks, small_lm_head_chunks
from .batching.padding import loss_mask, neutral_logps
from .batching.rollout import weigh_by_group
from .checks.returned_rewards import watched_rewards
from .checks.trainer import check_before_loading, check_loaded
from .config import DAPOConfig
from .generation.setup import built_with_vllm, generating, prepare_generation
from .monitoring.callbacks import add_callbacks
from .monitoring.completions_table import length_columns
from .monitoring.evaluation import EvaluationRecord
from .monitoring.filter_rewards import FilterRewards
from .monitoring.rollout_monitor import RolloutMonitor
from .run.beginning import forget_earlier_run, own_state, recall, resume
from .run.checkpoint import last_complete_checkpoint, mark_incomplete, save_metadata, save_state
from .run.early_end import EndOfRun, FinishedError
from .run.preemption import PreemptedError, Preemption
from .run.random_state import get_random_state, set_random_state
from .run.saved_model import as_saved, replaced_args
from .sampling.collection import CollectedBatch, collected_batch, columns_to_rows, generated_rows, padding_completion
from .sampling.refill import STATUS_COLUMN, ShortageError
from .sampling.sampler import DynamicSampler


logger = get_logger(__name__)


class DAPOTrainer(GRPOTrainer):
    r"""
    Trainer for Decoupled Clip and Dynamic sAmpling Policy Optimization (DAPO,
    https://huggingface.co/papers/2503.14476).

    Clip-higher (Sec. 3.1) and group advantages (Eq. 9) are TRL's. This class adds dynamic sampling (Sec. 3.2), the
    exact token-level normalization of every optimizer step (Sec. 3.3, Eq. 12), the soft overlong punishment (Sec. 3.4,
    Eq. 13), and micro-batches without needless padding. With `dynamic_sampling=False`, `balance_micro_batches=False`
    and one update per rollout it trains bit for bit as [`~trl.GRPOTrainer`].

    Example:

    ```python
    >>> from dapo_trl import DAPOConfig, DAPOTrainer, accuracy
    >>> from dapo_trl.data import load_prompts

    >>> trainer = DAPOTrainer(
    ...     model="Qwen/Qwen2.5-1.5B-Instruct",
    ...     reward_funcs=accuracy,
    ...     args=DAPOConfig(output_dir="outputs", max_completion_length=4096, soft_punish_cache=819),
    ...     train_dataset=load_prompts(
    ...         "open-r1/DAPO-Math-17k-Processed", config="all", prompt_template="boxed", conversational=True
    ...     ),
    ... )
    >>> trainer.train()
    ```

    The arguments are those of [`~trl.GRPOTrainer`]; `args` is a [`DAPOConfig`], or None for a default one.

    Callbacks (`dapo_trl/monitoring`) do what happens between optimizer steps. Overridden methods, each once, and why:

    - `_prepare_inputs`: a rollout's rows are assigned to optimizer steps and partitioned into balanced micro-batches,
      each with the count that makes TRL's normalizer exact.
    - `_generate_and_score_completions`: collects informative groups first, then lets the parent score exactly these.
    - `_generate`, `_calculate_rewards`: answer from the collected rows while the parent scores them, and are timed.
      Where Transformers generates, completions that have ended leave the batch, and nothing is drawn by settings of
      the model's own generation configuration. Rewards that training cannot use are refused.
    - `_get_per_token_logps_and_entropies`: old and reference log-probabilities without needless padding; in the loss,
      0 for tokens that are not trained on, whose exponentials could overflow before TRL masks them.
    - `_compute_loss`: the parent's, with its metrics weighed by tokens. Eq. 8 to 12 in plain PyTorch, which tests
      compare with, stand in `tests/reference/dapo_reference.py`.
    - `evaluation_loop`: adds avg@k, and puts the random state back.
    - `train`: begins from scratch whatever was trained before; ends at once if the checkpoint is the end of the run.
    - `_run_epoch`: goes on in the middle of a rollout; an [`EndOfRun`] (a rollout that cannot be filled, an alarm, a
      reward that training cannot use, SIGTERM, a lost vLLM server) ends the run with a checkpoint.
    - `_save_checkpoint`: adds the prompt stream and the rollout in use, refuses weights that are not finite, pushes.
    - `_save`: beside the weights, the rule by which rewards read answers, and what generation needs; no secret.
    - `push_to_hub`, `create_model_card`: what a checkpoint's push has left open, too; our own card.

    Attributes:
        data_name (`str`, *optional*): Hub id or path of the training data, for the model card.
        prompt_template (`str`, *optional*): the template around its problems; None: it is looked for in the data.

    Raises:
        ValueError: for arguments that cannot work together; the message says what to change.
    """

    _tag_names = ["trl", "dapo"]
    _name = "DAPO"

    args: DAPOConfig
    model: Any
    train_dataset: Any
    vllm_generation: Any
    num_generations: int
    data_name: str | None = None
    prompt_template: str | None = None
    publisher: Any = None  # on the main process of a run that pushes to the Hub

    def __init__(
        self,
        model,
        reward_funcs=None,
        args: DAPOConfig | None = None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        reward_processing_classes=None,
        callbacks=None,
        optimizers=(None, None),
        quantization_config=None,
        peft_config=None,
        tools=None,
        rollout_func=None,
        environment_factory=None,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        given = check_before_loading(arguments)
        args = given.args
        with built_with_vllm(args, given.datasets.values(), lambda: self.state.global_step):
            super().__init__(**arguments | given.replacements())
        columns = check_loaded(self, given, model, eval_dataset)
        names, overlong = self.reward_func_names, given.overlong_column
        self.filter_rewards = FilterRewards(args, columns, names, self.reward_weights, overlong)
        self.monitor = RolloutMonitor(self, args, self.filter_rewards, overlong)
        self.preemption = Preemption(self.accelerator)
        prepare_generation(self, self.monitor.timer.measure("weight_sync"))
        self.alarms, self.finite = add_callbacks(self)
        self._makes_optimizer, self._has_trained = given.makes_optimizer, False
        self._loss_mask: torch.Tensor | None = None  # of the micro-batch whose loss is being computed
        self._collected: CollectedBatch | None = None  # while the parent scores it
        self._evaluation: EvaluationRecord | None = None  # the one under way
        self._open_rollouts()
        if args.push_to_hub and self.is_world_process_zero():
            from .hub.publishing import open_publisher

            self.publisher = open_publisher(self)

    def _open_rollouts(self) -> None:
        """Nothing has been drawn, generated or trained on."""
        self.batcher = RolloutBatcher(self.args, self.accelerator, self._tokenizer.pad_token_id)
        self.sampler: DynamicSampler | None = None
        if self.args.dynamic_sampling:
            prompts = self._remove_unused_columns(self.train_dataset, description="training")
            self.sampler = DynamicSampler(prompts, self.args, self.accelerator)
        self._random_state_of: str | None = None  # checkpoint whose random state the next rollout begins with
        self._last_saved_step: int | None = None
        self._num_rows_to_train: int | None = None  # rows of the rollout that are no padding; None: all
        self._warned_of_nan: set[int] = set()
        self._is_ending = False

    # Algorithm 1: a rollout, and the optimizer steps on it

    def _prepare_inputs(self, generation_batch):
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self._random_state_of is not None:
            super()._load_rng_state(self._random_state_of)
            self._random_state_of = None
        if not self.args.owns_batches:
            buffered = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            if self._buffered_inputs is not buffered:
                self.batcher.set_exact_denominators(self._buffered_inputs)
            return inputs
        micro_steps_per_rollout = self.args.steps_per_generation * self.num_iterations
        if self._step % micro_steps_per_rollout == 0 or self.batcher.rollout is None:
            self.batcher.rollout = None  # its memory is free for the next one
            scored = self._generate_and_score_completions(generation_batch)
            with self.monitor.timer.measure("exchange"):
                plan = self.batcher.start(scored, self._num_rows_to_train, self.state.global_step)
            self.monitor.record_padding(plan)
        return self.batcher.micro_batch(self._step)

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            if self.is_in_train:
                self.preemption.check()
            scored = super()._generate_and_score_completions(inputs)
            self.monitor.mask_table()
            return scored
        with self.monitor.timer.measure("log_probs"):  # what generation and scoring leave of it
            if self.sampler:
                scored = self._score_informative_groups(self.sampler)
            else:
                scored = super()._generate_and_score_completions(inputs)
                self.monitor.record_scored(scored, self._generated_rewards)
        if self.args.token_normalization == "group":
            scored["advantages"] = weigh_by_group(scored, self.accelerator, self.num_generations)
        self.monitor.mask_table()
        return scored

    def _score_informative_groups(self, sampler: DynamicSampler) -> dict[str, Any]:
        """Collects a rollout, then lets the parent pad it and compute log-probabilities and advantages, once."""
        pool, collection = sampler.collect(
            self._generate_and_reward, self.filter_rewards.outcomes, self.monitor.inspect, self.preemption.check
        )
        padding = padding_completion(dict(sampler.prompts[0]), self.eos_token_ids[0])
        with self.monitor.timer.measure("exchange"):
            batch = collected_batch(collection, pool, self.accelerator, padding, has_logprobs=self.use_vllm)
        self.monitor.make_room(collection.num_rows + batch.num_padding_rows)
        self._collected, self._num_rows_to_train = batch, batch.num_rows
        try:
            scored = super()._generate_and_score_completions(batch.inputs())
        finally:
            self._collected = None
        self.monitor.record_scored(scored, batch.rewards[: batch.num_rows], batch)
        self.monitor.record_collection(pool, collection, sampler.stream.epoch)
        self.monitor.complete_table(pool, collection, batch.num_padding_rows)
        return scored

    def _generate_and_reward(self, inputs: list[dict[str, Any]]) -> tuple:
        """One generation call of dynamic sampling for this process's rows of the data set, and the rewards of all."""
        prompts = [row["prompt"] for row in inputs]
        with self.monitor.recording() as recorded:
            generation = self._generate(prompts)
        extra_fields, images = generation[5], generation[6]
        if images is not None:
            raise ValueError("A prompt holds an image, which dynamic_sampling does not support. Set it to false.")
        for i, row in enumerate(inputs):
            row.update({key: value[i] if isinstance(value, list) else value for key, value in extra_fields.items()})
        rewards = self._calculate_rewards(inputs, prompts, generation[3], generation[1])
        extra = columns_to_rows(self._pending_extra_logs, len(inputs))
        self._pending_extra_logs.clear()
        return generated_rows(inputs, generation, extra), rewards, self.monitor.take_lengths(recorded)

    # The parent scores the collected rows: while it does, these two answer in place of generation and reward functions

    def _generate(self, prompts):
        if self._collected is not None:
            return self._collected.generation()
        with self._timed("generation"), generating(self):
            generation = super()._generate(prompts)
        if self.model.training:
            self.monitor.record_generation(completion_ids=generation[1], logprobs=generation[4])
        return generation

    def _timed(self, phase: str):  # evaluation is no phase of a rollout
        return self.monitor.timer.measure(phase) if self.model.training else contextlib.nullcontext()

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        if self._collected is not None:
            self._pending_extra_logs.update(self._collected.extra_columns())
            return self._collected.rewards
        if self.log_completions:
            end_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}
            self._pending_extra_logs.update(length_columns(completion_ids_list, end_ids))
        watched = watched_rewards(self, prompts, completions, self._warned_of_nan)
        with self._timed("scoring"), watched as check:
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            check(rewards)
        self.filter_rewards.notice_grades(rewards)
        if not self.model.training:
            if self._evaluation is not None:
                self._evaluation.add(rewards)
            if self.sampler:  # all columns of the completions table must be equally long
                self._pending_extra_logs[STATUS_COLUMN].extend(["evaluation"] * len(prompts))
        elif not self.sampler:
            self._generated_rewards = rewards
            self.monitor.record_groups(rewards, completion_ids_list)
        return rewards

    # Log-probabilities and the loss

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs
    ):
        score = super()._get_per_token_logps_and_entropies
        is_asked_for_more = any(value is not None and value is not False for value in kwargs.values())
        if self.args.balance_micro_batches and batch_size and self.model.training and not is_asked_for_more:
            # Old and reference log-probabilities: as many forward passes as the parent's, with less padding.
            logps = score_in_chunks(
                lambda ids, mask, length: score(model, ids, mask, length)[0],
                input_ids,
                attention_mask,
                logits_to_keep,
                num_chunks=-(-input_ids.size(0) // batch_size),
            )
            return logps, None, None
        logps, *others = score(model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs)
        if self._loss_mask is not None:
            logps = logps.where(self._loss_mask, 0)  # see `neutral_logps`
            if self.model.training:
                self.monitor.record_probabilities(logps.detach(), self._loss_mask)
        return logps, *others

    def _compute_loss(self, model, inputs):
        self._loss_mask = loss_mask(inputs).bool()
        try:
            if "num_trained_tokens" not in inputs:
                loss = super()._compute_loss(model, neutral_logps(inputs))
            else:
                with self.monitor.recording() as recorded:
                    loss = super()._compute_loss(model, neutral_logps(inputs))
                self.monitor.record_loss(recorded, inputs["num_trained_tokens"])
        finally:
            self._loss_mask = None
        if self.model.training:
            is_first = self._step % self.args.gradient_accumulation_steps == 0
            if is_first and self._globalstep_last_logged == self.state.global_step:
                self._tr_loss.nan_to_num_(nan=0.0)  # Trainer resets it by subtraction: infinity minus itself is NaN
            self.finite.add_loss(loss, self.model, self.state.global_step)
        return loss

    # Evaluation

    def evaluation_loop(self, dataloader, *args: Any, metric_key_prefix="eval", **kwargs: Any):
        """
        TRL's, with avg@k, and means over all rows instead of means of batch means. Training goes on as if it had not
        taken place, unless TRL makes the batches: its random numbers are the next after those of the evaluation.
        """
        random_state, kwargs["metric_key_prefix"] = get_random_state(), metric_key_prefix
        self._evaluation = EvaluationRecord(self.args, self.filter_rewards, self.reward_weights)
        try:
            output: Any = super().evaluation_loop(dataloader, *args, **kwargs)
            num_problems = len(dataloader.dataset) if hasattr(dataloader.dataset, "__len__") else None
            metrics = self._evaluation.finish(self._metrics["eval"], num_problems, metric_key_prefix)
        except EndOfRun:
            self._metrics["eval"].clear()  # the log of the run's end is none of an evaluation
            raise
        finally:
            self._evaluation = None
            if self.is_in_train and self.args.owns_batches:
                set_random_state(random_state)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    # The life of a run: beginning, early end, checkpoints

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        self._open_rollouts()
        is_first, self._has_trained = not self._has_trained, True
        forget_earlier_run(self, is_first, self._makes_optimizer)
        if resume_from_checkpoint is True:  # Trainer would take one that is half-written, too
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir) or True
        save_total_limit = self.args.save_total_limit
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except (FinishedError, PreemptedError) as reason:  # the latter in an evaluation before the first step
            if isinstance(reason, FinishedError):
                recall(self, resume_from_checkpoint)
                self.monitor.last_reason = f"No rollout up to {resume_from_checkpoint} had a gradient."
                if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
                    self._load_best_model()
            if self.use_vllm:
                self.vllm_generation.release()
            logger.warning(f"Nothing is trained. {reason}")
            return TrainOutput(self.state.global_step, 0.0, {})
        finally:
            self.is_in_train = False
            self.args.save_total_limit = save_total_limit

    def _run_epoch(self, *args, **kwargs):
        checkpoint = kwargs["resume_from_checkpoint"]
        if checkpoint is not None and kwargs["epoch"] == kwargs["epochs_trained"]:
            self._random_state_of = resume(self, checkpoint)
        self._is_ending = False
        own = small_lm_head_chunks(self.accelerator.device) if self.args.owns_batches else contextlib.nullcontext()
        try:
            with own:
                super()._run_epoch(*args, **kwargs)
        except EndOfRun as reason:
            self._end_early(reason, kwargs["model"], kwargs["trial"])
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            # With a limit of 1, the parent would delete the last checkpoint at its end if another is the best: a run
            # that is started again would not know that it has ended.
            self.args.save_total_limit = None

    def _end_early(self, reason: EndOfRun, model, trial) -> None:
        """Saves a checkpoint to go on from, and ends the run, with an error if that is what has happened."""
        self._is_ending = True
        self.monitor.last_reason = str(reason)
        # Preempted just after a checkpoint: time is short, and nothing has changed.
        is_saved = isinstance(reason, PreemptedError) and self._last_saved_step == self.state.global_step
        if self.args.save_strategy != "no" and not is_saved:
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)
        if self.preemption.is_agreed:
            self.push_in_progress = None  # nobody waits for pushes
        if reason.is_failure or (isinstance(reason, ShortageError) and self.args.on_shortage == "raise"):
            raise reason
        logger.warning(f"Training ends before optimizer step {self.state.global_step + 1}. {reason}")
        self.control.should_training_stop = True

    def _save_checkpoint(self, model, trial):
        # A checkpoint without use must not stand in the way of, or push out, the last good one.
        self.finite.check_weights(model, self.state.global_step)
        checkpoint = f"{self._get_output_dir(trial)}/{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            mark_incomplete(checkpoint)
        if self.args.owns_batches and not self.args.save_only_model:
            save_state(own_state(self, self._is_ending), checkpoint, self.accelerator.process_index)
            # What the main process writes next tells that the checkpoint is complete.
            self.accelerator.wait_for_everyone()
        with replaced_args(self, push_to_hub=False):  # pushes are the publisher's
            super()._save_checkpoint(model, trial)
        self._last_saved_step = self.state.global_step
        if self.publisher is not None:
            from .hub.publishing import push_checkpoint

            push_checkpoint(self, self.publisher, checkpoint)

    def _save(self, output_dir=None, state_dict=None):
        output_dir = output_dir or self.args.output_dir
        with as_saved(self, output_dir):
            super()._save(output_dir, state_dict)
        if self.args.should_save:
            rewards = dict(zip(self.reward_func_names, self.reward_funcs, strict=True))
            save_metadata(output_dir, rewards, self.prompt_form, self.args.chat_template_kwargs)

    @property
    def reason_untrained(self) -> str | None:
        """Why this run has trained nothing, if no rollout so far had a gradient; else None."""
        return self.monitor.reason_untrained

    @functools.cached_property
    def prompt_form(self):
        """How problems are asked, see [`~dapo_trl.data.prompts.find_form`]; None: the data does not tell."""
        from .data.prompts import find_form

        return find_form(self.train_dataset, self.prompt_template)

    @property
    def hub_address(self) -> str | None:
        """Page of the repository; None if nothing is pushed, and on all processes but the main one."""
        return self.publisher and self.publisher.address

    def push_to_hub(self, commit_message="End of training", blocking=True, token=None, revision=None, **kwargs):
        from .hub.publishing import push_final

        return push_final(self, commit_message, blocking, token, revision, **kwargs)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):  # type: ignore[override]
        if self.is_world_process_zero():
            from .hub.publishing import write_model_card

            write_model_card(self, model_name, dataset_name, tags, may_fail=self.is_in_train)
