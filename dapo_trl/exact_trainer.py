"""GRPOTrainer with exact normalization, micro-batches without needless padding, and exact resuming."""

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import GRPOTrainer
from trl.trainer.utils import shuffle_sequence_dict

from .batching import Lengths, loss_mask, neutral_logps, pad_rows, score_in_pieces
from .batching.rollout import Rollout, RolloutPlan, buffered_denominators, gather_lengths
from .checks.dropout import check_dropout
from .checks.model import warn_if_updates_vanish, warn_of_rate
from .checks.settings import TOKEN_LOSS_TYPES
from .config import DAPOConfig
from .distributed.all_to_all import assert_agreement
from .generation.compact import dropping_ended_rows
from .generation.kwargs import end_tokens, own_settings, without_own_settings
from .lm_head import small_tiles
from .monitoring.completions_table import mask_table, reset_table
from .monitoring.metrics import MicroBatchMetrics
from .monitoring.timer import PhaseTimer
from .run.checkpoint import (
    check_same_rollouts,
    load_own_state,
    plan_inputs_from_state,
    restore_rollout,
    rollout_state,
    save_state,
)
from .run.preemption import PreemptedError, Preemption
from .run.random_state import get_random_state, set_random_state


logger = get_logger(__name__)


class ExactGRPOTrainer(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] whose optimizer steps do not depend on how they are cut or where they were interrupted.

    The base of [`DAPOTrainer`], which lists the overridden methods; it takes the same arguments, and its `args` are a
    [`DAPOConfig`]. Rows come from the parent's generation and scoring. From there on they are this class's: dealt to
    optimizer steps, cut into micro-batches that are nearly equal in cost on all processes, each with the count that
    makes the parent's normalizer exact, and stored in checkpoints.
    """

    args: DAPOConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._makes_optimizer = self.optimizer is None
        self._has_trained = False
        vocab_size = self.model.config.get_text_config().vocab_size
        self.eos_token_ids = end_tokens(self.args, self.eos_token_ids, vocab_size)
        if self.use_vllm:  # whatever the server has been told of the model: it ends where this trainer sees an end
            self.vllm_generation.generation_kwargs = {
                **(self.args.generation_kwargs or {}),
                "stop_token_ids": self.eos_token_ids,
            }
        elif own := own_settings(self.model.generation_config, self.generation_kwargs):
            listed = ", ".join(f"{name}={str(value):.40}" for name, value in own.items())
            logger.warning(
                f"model.generation_config has {listed}: completions would be drawn from another distribution than the "
                "policy's, so it is left out in training. What is meant for training goes into generation_kwargs."
            )
        self._has_learnt = False  # a rollout had a gradient
        if self.args.balance_micro_batches and self.aux_loss_enabled:
            raise ValueError(
                f"router_aux_loss_coef={self.router_aux_loss_coef} cannot be combined with balance_micro_batches: the "
                "load-balancing loss is computed per micro-batch. Set router_aux_loss_coef to 0, or "
                "balance_micro_batches to false."
            )
        check_dropout(self.model, is_off=self.args.disable_dropout)
        computes_in_half = self.args.bf16 or self.args.fp16
        has_float32_copy = self.is_deepspeed_enabled or (self.is_fsdp_enabled and computes_in_half)
        if self._makes_optimizer:  # another one has its own rate
            if not has_float32_copy:
                warn_if_updates_vanish(self.model, self.args.learning_rate)
            warn_of_rate(self.model, self.args)
        self.preemption = Preemption()
        self.phases = PhaseTimer()
        self._is_ending = False
        self._resumed_random_state: dict[str, Any] | None = None
        self._rollout: Rollout | None = None
        self._num_rows_to_train: int | None = None  # rows of the rollout that are no fillers; None: all
        self._micro_batch_metrics = MicroBatchMetrics()
        self._loss_mask: torch.Tensor | None = None  # of the micro-batch whose loss is being computed

    # Generation with Transformers

    def _generate_single_turn(self, *args, **kwargs):
        # With sharded weights, all processes must run the model equally often.
        is_sharded = self.is_fsdp_enabled or is_deepspeed_zero3_enabled()
        is_compact = self.args.owns_batches and self.args.compact_generation
        if self.use_vllm:
            return super()._generate_single_turn(*args, **kwargs)
        model = self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False)
        is_whole = not is_compact or is_sharded
        with (
            without_own_settings(model),
            contextlib.nullcontext() if is_whole else dropping_ended_rows(model, self.generation_config),
        ):
            return super()._generate_single_turn(*args, **kwargs)

    # Micro-batches: which rows, and what they are divided by

    def _prepare_inputs(self, generation_batch):
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self._resumed_random_state is not None:
            set_random_state(self._resumed_random_state)
            self._resumed_random_state = None
        if self._step % self.args.gradient_accumulation_steps == 0:
            self._stop_if_preempted()
        if not self.args.owns_batches:
            return self._prepare_trl_batch(generation_batch)
        if self._step % self._micro_steps_per_rollout == 0 or self._rollout is None:
            self._rollout = None  # its memory is free for the next one
            self._rollout = self._start_rollout(generation_batch)
        step, micro_batch = divmod(self._step % self.args.steps_per_generation, self.args.gradient_accumulation_steps)
        return self._build_micro_batch(self._rollout, step, micro_batch)

    @property
    def _micro_steps_per_rollout(self) -> int:
        return self.args.steps_per_generation * self.num_iterations

    @property
    def _optimizer_steps_per_rollout(self) -> int:
        return self.args.optimizer_steps_per_rollout

    def _prepare_trl_batch(self, generation_batch):
        """TRL's own micro-batches; only their normalizer is made exact for each optimizer step."""
        buffered = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is buffered or self.loss_type not in (*TOKEN_LOSS_TYPES, "vespo"):
            return inputs
        denominators = buffered_denominators(
            self._buffered_inputs,
            self.accelerator,
            self.args.updates_per_rollout,
            self.args.token_normalization,
            num_groups=self.args.prompts_per_rollout,
        )
        for i, batch in enumerate(self._buffered_inputs):
            step = i // self.args.gradient_accumulation_steps
            batch["num_items_in_batch"] = denominators[step] * self.args.updates_per_rollout
        return inputs

    def _start_rollout(self, generation_batch) -> Rollout:
        """Generates and scores a rollout, deals its rows to optimizer steps, and moves each to its process."""
        scored = self._generate_and_score_completions(generation_batch)
        lengths, trained_tokens = gather_lengths(scored, self.accelerator)
        num_rows = self._num_rows_to_train or len(lengths)
        plan = self._plan(lengths[:num_rows], trained_tokens[:num_rows], self._deal(num_rows))
        for name, value in plan.padding_metrics().items():
            self._metrics["train"][f"padding/{name}"].append(value)
        with self.phases.measure("exchange"):
            return Rollout.distribute(scored, plan, self.accelerator, self._tokenizer.pad_token_id)

    def _deal(self, num_rows: int) -> list[list[int]]:
        """Rows of each optimizer step: those that it would train under GRPOTrainer."""
        num_steps = self.args.updates_per_rollout
        num_local = num_rows // self.accelerator.num_processes
        order = shuffle_sequence_dict({"row": torch.arange(num_local)})["row"]
        order = order.to(self.accelerator.device) + self.accelerator.process_index * num_local
        by_process = self.accelerator.gather(order).view(self.accelerator.num_processes, num_steps, -1)
        return by_process.transpose(0, 1).reshape(num_steps, -1).tolist()

    def _plan(self, lengths: list[Lengths], trained_tokens: list[int], steps: list[list[int]]) -> RolloutPlan:
        return RolloutPlan.build(
            lengths,
            trained_tokens,
            steps,
            num_processes=self.accelerator.num_processes,
            num_micro_batches=self.args.gradient_accumulation_steps,
            num_generations=self.num_generations,
            token_normalization=self.args.token_normalization,
            is_balanced=self.args.balance_micro_batches,
            has_equal_rows=self.loss_type not in TOKEN_LOSS_TYPES,
        )

    def _build_micro_batch(self, rollout: Rollout, step: int, micro_batch: int) -> dict[str, Any]:
        device, plan = self.accelerator.device, rollout.plan
        rows = rollout.micro_batch(step, self.accelerator.process_index, micro_batch)
        batch = pad_rows(rows, self._tokenizer.pad_token_id, device, self.pad_to_multiple_of)
        if self.loss_type not in TOKEN_LOSS_TYPES:
            batch["advantages"] *= plan.row_mean_scale(step)
        # The parent divides this by updates_per_rollout: what is left is the denominator of this optimizer step.
        num_items = plan.denominators[step] * self.args.updates_per_rollout
        batch["num_items_in_batch"] = torch.tensor(num_items, device=device)
        batch["num_trained_tokens"] = plan.num_trained_tokens(step, micro_batch)
        return batch

    def training_step(self, model, inputs, num_items_in_batch=None):
        in_tiles = small_tiles(self.accelerator.device) if self.args.owns_batches else contextlib.nullcontext()
        try:
            with in_tiles:
                return super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as error:
            if self._rollout is not None:  # not while a rollout is generated, where micro-batches play no part
                error.add_note(self._advice_on_memory(self._rollout.plan))
            raise

    def _advice_on_memory(self, plan: RolloutPlan) -> str:
        tokens = plan.padding_metrics()["max_micro_batch_tokens"]
        return (
            f"The costliest micro-batch of this rollout has {tokens} tokens with its padding (padding/"
            "max_micro_batch_tokens in the log); the memory of a training step grows with it. Lower "
            f"per_device_train_batch_size={self.args.per_device_train_batch_size} and raise "
            f"gradient_accumulation_steps={self.args.gradient_accumulation_steps} by the same factor: the optimizer "
            "steps stay the same."
        )

    # Metrics and scores of micro-batches of different sizes

    @contextlib.contextmanager
    def _recorded_metrics(self) -> Iterator[dict[str, list[float]]]:
        """What the parent records inside goes into the dict, not into the log."""
        kept, recorded = self._metrics["train"], defaultdict(list)
        self._metrics["train"] = recorded
        try:
            yield recorded
        finally:
            self._metrics["train"] = kept

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs
    ):
        is_scoring_pass = (
            batch_size is not None
            and self.model.training
            and not any(value is not None and value is not False for value in kwargs.values())
        )
        if not (is_scoring_pass and self.args.balance_micro_batches):
            logps, *others = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
            )
            if self._loss_mask is not None:
                logps = logps.where(self._loss_mask, 0)  # see `neutral_logps`
            return logps, *others
        # Old and reference log-probabilities: as many forward passes as the parent's, with less padding.
        score = super()._get_per_token_logps_and_entropies
        num_pieces = -(-input_ids.size(0) // batch_size)
        logps = score_in_pieces(
            lambda ids, mask, length: score(model, ids, mask, length)[0],
            input_ids,
            attention_mask,
            logits_to_keep,
            num_pieces,
        )
        return logps, None, None

    def _compute_loss(self, model, inputs):
        self._loss_mask = loss_mask(inputs).bool()
        try:
            return self._compute_own_loss(model, neutral_logps(inputs))
        finally:
            self._loss_mask = None

    def _compute_own_loss(self, model, inputs):
        if "num_trained_tokens" not in inputs:
            return super()._compute_loss(model, inputs)
        with self._recorded_metrics() as recorded:
            loss = super()._compute_loss(model, inputs)
        self._micro_batch_metrics.add(recorded, inputs["num_trained_tokens"])
        for name, values in recorded.items():
            self._metrics["train"][name].extend(values)
        return loss

    def log(self, logs, start_time=None):
        if self.model.training:
            for name, value in self._micro_batch_metrics.flush().items():
                self._metrics["train"][name] = [value]
        if self.is_in_train and "loss" in logs:
            self._tr_loss.nan_to_num_(nan=0.0)  # Trainer resets it by subtraction, and infinity minus itself is NaN
        if self.log_completions and self.accelerator.is_main_process:
            mask_table(self._logs)
        super().log(logs, start_time)

    # Beginning, stopping and resuming

    def _begin_afresh(self) -> None:
        """
        Before every `train()`: nothing of an earlier one is left, however it ended, but the weights.

        The second `train()` of a trainer is the first one of a new trainer with these weights. An optimizer that was
        passed to the trainer keeps its state; Trainer would keep its own, too, with the moments of the earlier run.
        """
        self._step, self._has_learnt = 0, False
        self._buffered_inputs = self._rollout = self._num_rows_to_train = self._resumed_random_state = None
        self._micro_batch_metrics = MicroBatchMetrics()
        self._current_train_step_time = 0.0
        for waiting in (*self._metrics.values(), self._pending_extra_logs, self._pending_metrics):
            waiting.clear()
        reset_table(self._logs, self.args.generation_batch_size)
        self.entropy_coef, self._last_world_entropy = self.args.entropy_coef, math.inf
        self._last_loaded_step = -1  # a vLLM engine holds the weights of another step, or of a step before
        if self.preemption.is_agreed:
            self.preemption.is_requested = self.preemption.is_agreed = False
        if self._has_trained:
            if self._makes_optimizer:
                self.optimizer = None
            set_seed(self.args.seed, device_specific=True)  # as in the parent's constructor
        self._has_trained = True

    def _stop_if_preempted(self) -> None:
        """Every process stops if any of them has been told to."""
        if self.preemption.is_listening:
            is_requested = torch.tensor(int(self.preemption.is_requested), device=self.accelerator.device)
            if self.accelerator.reduce(is_requested, reduction="sum").item():
                self.preemption.is_agreed = True
                raise PreemptedError("The run has been told to end (SIGTERM).")

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if not self.args.owns_batches:
            return
        # By optimizer steps that are done: one that an alarm has broken off is to be repeated.
        is_in_use = self._rollout is not None and self.state.global_step % self._optimizer_steps_per_rollout != 0
        state = {
            "num_processes": self.accelerator.num_processes,
            "optimizer_steps_per_rollout": self._optimizer_steps_per_rollout,
            "is_ending": self._is_ending,
            "rollout": rollout_state(self._rollout) if is_in_use else None,
            "has_learnt": self._has_learnt,
        }
        save_state(state | self._sampling_state(), output_dir, self.accelerator.process_index)
        # What the main process writes next tells that the checkpoint is complete.
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        state = self._recall(checkpoint)
        if not self.args.owns_batches:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        self._rollout = None
        found = {"has_state": bool(state), "has_rollout": state.get("rollout") is not None}
        assert_agreement({"global_step": self.state.global_step, **found}, self.accelerator)
        if state:
            check_same_rollouts(state, checkpoint, self._optimizer_steps_per_rollout)
            if state["is_ending"]:
                # It was written when the data loader had begun, and a loader that begins uses the random state.
                self._resumed_random_state = get_random_state()
        self._restore_sampling_state(state, checkpoint)
        if state.get("rollout") is not None:
            plan = self._plan(*plan_inputs_from_state(state["rollout"]))
            self._rollout = restore_rollout(checkpoint, state, plan, self.accelerator.process_index)

    def _recall(self, checkpoint: str) -> dict[str, Any]:
        """What a checkpoint holds of this trainer. Without it, steps count as steps with a gradient."""
        is_written = self.args.owns_batches
        state = (load_own_state(checkpoint, self.accelerator.process_index) if is_written else None) or {}
        self._has_learnt = state.get("has_learnt", self.state.global_step > 0)
        return state

    def _sampling_state(self) -> dict[str, Any]:
        """What a checkpoint holds of how prompts are drawn."""
        return {}

    def _restore_sampling_state(self, state: dict[str, Any], checkpoint: str) -> None:
        """Goes on drawing prompts where the checkpoint was written; `state` is empty if it has none."""
        if not state:
            logger.warning(f"{checkpoint} holds no state of DAPOTrainer: a rollout in use is generated anew.")
