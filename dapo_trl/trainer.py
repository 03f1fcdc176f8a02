"""DAPOTrainer: Algorithm 1 of the DAPO paper on top of TRL's GRPOTrainer."""

import contextlib
import copy
import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.logging import get_logger
from datasets import Dataset
from trl import GRPOTrainer
from trl.trainer.utils import get_config_model_id, shuffle_sequence_dict

from .checkpoint import (
    CheckpointError,
    load_state,
    plan_inputs_from_state,
    rollout_state,
    rows_from_state,
    save_state,
)
from .collection import FATE_COLUMN, Collection, GeneratedRow, Replay, columns_to_rows, filler_completion
from .completions_table import append_dropped, remove_last, reset_table
from .config import TOKEN_LOSS_TYPES, DAPOConfig
from .exchange import exchange
from .loss import Lengths, deal_rows, filler_row, group_weights, pad_rows, unpad
from .metrics import MicroBatchMetrics, reward_metrics, total_rewards
from .requirements import check_dataset_size, check_reward_weights, check_supported, deciding_reward
from .rewards.functions import SoftOverlongPunishment
from .rollout import Rollout, RolloutPlan
from .sampling import (
    AcceptanceRate,
    GroupPool,
    Outcome,
    PromptStream,
    ShortageError,
    equal_share_multiple,
    group_outcomes,
    round_size,
    shortage_message,
)


logger = get_logger(__name__)


class DAPOTrainer(GRPOTrainer):
    r"""
    Trainer for Decoupled Clip and Dynamic sAmpling Policy Optimization (DAPO,
    https://huggingface.co/papers/2503.14476).

    Clip-higher (Sec. 3.1) and group advantages (Eq. 9) are TRL's. This class adds dynamic sampling (Sec. 3.2), the exact
    token-level normalization of every optimizer step (Sec. 3.3, Eq. 12), the soft overlong punishment (Sec. 3.4,
    Eq. 13), and micro-batches without needless padding. With `dynamic_sampling=False`, `balance_micro_batches=False` and
    one update per rollout it trains bit for bit as [`~trl.GRPOTrainer`].

    Example:

    ```python
    >>> from datasets import load_dataset
    >>> from dapo_trl import DAPOConfig, DAPOTrainer, accuracy

    >>> trainer = DAPOTrainer(
    ...     model="Qwen/Qwen2.5-1.5B-Instruct",
    ...     reward_funcs=accuracy,
    ...     args=DAPOConfig(output_dir="outputs", max_completion_length=4096, soft_punish_cache=819),
    ...     train_dataset=load_dataset("open-r1/DAPO-Math-17k-Processed", "all", split="train"),
    ... )
    >>> trainer.train()
    ```

    The arguments are those of [`~trl.GRPOTrainer`]; `args` is a [`DAPOConfig`], or None for a default one.

    Methods of the parents that are overridden, and why:

    | method | reason |
    |---|---|
    | `_prepare_inputs` | deals the rollout's rows to optimizer steps and cuts balanced micro-batches, each with the count that makes TRL's normalizer exact |
    | `_generate_and_score_completions` | fills the rollout with informative groups first, then lets the parent score exactly these |
    | `_generate`, `_calculate_rewards` | answer from the collected rows while the parent scores them |
    | `_compute_loss` | weighs the parent's metrics by tokens |
    | `log` | hands these metrics over |
    | `_run_epoch` | a rollout that cannot be filled ends the run with a checkpoint |
    | `_save_rng_state`, `_load_rng_state` | the prompt stream and the rollout in use are saved and restored where the random state is |

    Raises:
        ValueError: for arguments that cannot work together; the message says what to change.
    """

    _tag_names = ["trl", "dapo"]
    _name = "DAPO"
    _paper = {
        "title": "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
        "id": "2503.14476",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{yu2025dapo,
                title        = {{DAPO: An Open-Source LLM Reinforcement Learning System at Scale}},
                author       = {Qiying Yu and Zheng Zhang and Ruofei Zhu and Yufeng Yuan and Xiaochen Zuo and Yu Yue and others},
                year         = 2025,
                eprint       = {arXiv:2503.14476},
            }"""),
    }

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
        if args is None:
            model_name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = DAPOConfig(f"{model_name.split('/')[-1]}-DAPO")
        if not isinstance(args, DAPOConfig):
            raise TypeError(f"args is a {type(args).__name__}, but DAPOTrainer needs a DAPOConfig. Build one instead.")
        check_supported(args, train_dataset, tools, environment_factory)
        check_dataset_size(args, train_dataset)

        # The parent changes these in place; the caller's objects stay as they are.
        args = copy.copy(args)
        reward_funcs = _as_list(reward_funcs)
        check_reward_weights(args, len(reward_funcs))
        num_task_rewards = len(reward_funcs)
        self._overlong_reward = None
        if args.soft_punish_cache is not None:
            self._overlong_reward = num_task_rewards
            reward_funcs.append(SoftOverlongPunishment(args.max_completion_length, args.soft_punish_cache))
            args.reward_weights = [*(args.reward_weights or [1.0] * num_task_rewards), args.overlong_weight]
            if reward_processing_classes is not None:
                reward_processing_classes = [*_as_list(reward_processing_classes), None]

        super().__init__(
            model=model,
            reward_funcs=reward_funcs,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        if args.balance_micro_batches and self.aux_loss_enabled:
            raise ValueError(
                f"router_aux_loss_coef={self.router_aux_loss_coef} cannot be combined with balance_micro_batches: the "
                "load-balancing loss is computed per micro-batch. Set router_aux_loss_coef to 0, or "
                "balance_micro_batches to false."
            )
        self._micro_batch_metrics = MicroBatchMetrics()
        self._rollout: Rollout | None = None
        self._replayed: Replay | None = None
        if args.dynamic_sampling:
            self._deciding_reward = deciding_reward(args, self.reward_func_names[:num_task_rewards])
            self._prompts: Dataset = self._remove_unused_columns(self.train_dataset, description="training")
            self._prompt_stream = PromptStream(len(self._prompts), args.seed, args.shuffle_dataset)
            self._acceptance = AcceptanceRate()

    # Micro-batches: which rows, and what they are divided by

    def _prepare_inputs(self, generation_batch):
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if not self.args.owns_batches:
            return self._prepare_trl_batch(generation_batch)
        if self._step % self._micro_steps_per_rollout == 0 or self._rollout is None:
            self._rollout = self._start_rollout(generation_batch)
        step, micro_batch = divmod(self._step % self.args.steps_per_generation, self.args.gradient_accumulation_steps)
        return self._build_micro_batch(self._rollout, step, micro_batch)

    @property
    def _micro_steps_per_rollout(self) -> int:
        return self.args.steps_per_generation * self.num_iterations

    @property
    def _optimizer_steps_per_rollout(self) -> int:
        return self.args.updates_per_rollout * self.num_iterations

    def _prepare_trl_batch(self, generation_batch):
        """TRL's own micro-batches; only their normalizer is made exact for each optimizer step."""
        buffered = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is buffered or self.args.updates_per_rollout == 1:
            return inputs  # nothing new, or TRL's average over one optimizer step is exact
        if self.loss_type in (*TOKEN_LOSS_TYPES, "vespo") and self.args.token_normalization == "step":
            accumulation = self.args.gradient_accumulation_steps
            tokens = torch.stack([_loss_mask(batch).sum() for batch in self._buffered_inputs])
            step_tokens = self.accelerator.reduce(tokens.view(-1, accumulation).sum(dim=1), reduction="sum")
            for i, batch in enumerate(self._buffered_inputs):
                batch["num_items_in_batch"] = step_tokens[i // accumulation] * self.args.updates_per_rollout
        return inputs

    def _start_rollout(self, generation_batch) -> Rollout:
        """Generates and scores a rollout, deals its rows to optimizer steps, and moves each to its process."""
        scored = self._generate_and_score_completions(generation_batch)
        lengths, trained_tokens = self._gather_lengths(scored)
        plan = self._plan(lengths, trained_tokens, self._deal(len(lengths)))
        for name, value in plan.padding_metrics().items():
            self._metrics["train"][f"padding/{name}"].append(value)

        rows = unpad(scored)
        first, owners = self.accelerator.process_index * len(rows), plan.owners()
        outgoing = [[] for _ in range(self.accelerator.num_processes)]
        for number, row in enumerate(rows, start=first):
            if number in owners:  # the others are fillers
                outgoing[owners[number]].append((number, row))
        filler = filler_row(rows[0], self._tokenizer.pad_token_id)
        return Rollout(plan, dict(exchange(outgoing, self.accelerator)), filler)

    def _gather_lengths(self, scored: dict[str, torch.Tensor]) -> tuple[list[Lengths], list[int]]:
        """Prompt and completion length and trained tokens of each row of the rollout, without fillers."""
        masks = (scored["prompt_mask"], scored["completion_mask"], _loss_mask(scored))
        counts = self.accelerator.gather(torch.stack([mask.sum(dim=1) for mask in masks], dim=1)).tolist()
        if self.args.dynamic_sampling:
            counts = counts[: self._num_replayed_rows]
        # A row that is masked out keeps one completion token: see `unpad`.
        return [Lengths(prompt, max(1, completion)) for prompt, completion, _ in counts], [row[2] for row in counts]

    def _deal(self, num_rows: int) -> list[list[int]]:
        """Rows of each optimizer step."""
        num_steps = self.args.updates_per_rollout
        if self.args.dynamic_sampling:
            num_rollouts = self.state.global_step // self._optimizer_steps_per_rollout
            return deal_rows(num_rows, num_steps, seed=self.args.seed + 7919 * (num_rollouts + 1))
        # Without dynamic sampling, every optimizer step trains the rows that it would under GRPOTrainer.
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

    # Dynamic sampling: Algorithm 1, lines 2 to 8

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        if self.args.dynamic_sampling:
            scored = self._generate_and_score_informative_groups()
        else:
            scored = super()._generate_and_score_completions(inputs)
        if self.args.token_normalization == "group":
            trained_tokens = self.accelerator.gather(_loss_mask(scored).sum(dim=1))
            weights = group_weights(trained_tokens, self.num_generations)
            scored["advantages"] = (
                scored["advantages"] * weights.chunk(self.accelerator.num_processes)[self.accelerator.process_index]
            )
        return scored

    def _generate_and_score_informative_groups(self) -> dict[str, torch.Tensor]:
        """Collects a rollout, then lets the parent pad it and compute log-probabilities and advantages, once."""
        pool, collection = self._collect_informative_groups()
        replay = self._build_replay(pool, collection)
        self._num_replayed_rows = replay.num_rows
        if self.log_completions:
            reset_table(self._logs, collection.num_rows + len(replay.rewards))
        with self._replaying(replay):
            scored = super()._generate_and_score_completions(replay.inputs())
        self._record_metrics(pool, collection)
        if self.log_completions:
            self._complete_table(pool, collection, num_fillers=len(replay.rewards) - replay.num_rows)
        return scored

    def _collect_informative_groups(self) -> tuple[GroupPool, Collection]:
        """Generates in rounds until the rollout is full of informative groups."""
        pool = GroupPool(self.args.prompts_per_rollout)
        collection = Collection(self.num_generations, keeps_dropped=self.log_completions)
        self._prompt_stream.begin_rollout()
        while pool.num_missing > 0 and pool.num_rounds < self.args.max_rounds:
            indices = self._draw_prompts(pool)  # line 2
            if not indices:
                break
            num_before = collection.num_rows
            self._generate_and_score_round(indices, collection)  # lines 4 and 5
            deciding = collection.rewards_per_func()[num_before:, self._deciding_reward]
            outcomes = group_outcomes(deciding.view(-1, self.num_generations))
            pool.add_round(outcomes)  # line 6
            self._acceptance.observe(outcomes.count(Outcome.INFORMATIVE), len(outcomes))
            collection.drop_rejected(pool)
            logger.info(
                f"Round {pool.num_rounds}: {pool.num_drawn} groups generated, {len(pool.accepted)} of {pool.size} kept"
            )
        self._warn_if_constant(collection)
        if pool.num_missing > 0:
            self._handle_shortage(pool)
        return pool, collection

    def _draw_prompts(self, pool: GroupPool) -> list[int]:
        """Prompts of the next round: as many as will probably fill the rollout, the same on every process."""
        equal_share = equal_share_multiple(self.num_generations, self.accelerator.num_processes)
        num_prompts = round_size(
            pool.num_missing,
            acceptance=self._acceptance.estimate(),
            max_prompts=int(self.args.max_oversampling * pool.size),
            # A 64th of the rollout in any case, so that large and small numbers of processes draw the same rounds.
            multiple_of=math.lcm(equal_share, max(1, pool.size // 64)),
        )
        return self._prompt_stream.draw(num_prompts, multiple_of=equal_share)

    def _generate_and_score_round(self, indices: list[int], collection: Collection) -> None:
        # Transformers pads all rows of a call together, so that a larger call than TRL's own might not fit in memory.
        size = len(indices) if self.use_vllm else self.args.prompts_per_rollout
        for start in range(0, len(indices), size):
            self._generate_and_score_prompts(indices[start : start + size], collection)

    def _generate_and_score_prompts(self, indices: list[int], collection: Collection) -> None:
        """One generation call for all processes: G completions of each prompt, and their rewards."""
        num_rows = len(indices) * self.num_generations // self.accelerator.num_processes
        first = self.accelerator.process_index * num_rows
        numbers = range(first, first + num_rows)
        inputs = [dict(self._prompts[indices[number // self.num_generations]]) for number in numbers]
        prompts = [row["prompt"] for row in inputs]

        recorded, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, _ = self._generate(prompts)
        call_metrics, self._metrics["train"] = self._metrics["train"], recorded
        if images is not None:
            raise ValueError("A prompt holds an image, which dynamic_sampling does not support. Set it to false.")
        for i, row in enumerate(inputs):
            row.update({key: value[i] if isinstance(value, list) else value for key, value in extra_fields.items()})
        rewards = self._calculate_rewards(inputs, prompts, completions, completion_ids)
        extra = columns_to_rows(self._pending_extra_logs, num_rows)
        self._pending_extra_logs.clear()

        rows = [
            GeneratedRow(*fields)
            for fields in zip(
                inputs,
                prompt_ids,
                completion_ids,
                completions,
                tool_mask or [None] * num_rows,
                logprobs or [None] * num_rows,
                extra,
                strict=True,
            )
        ]
        length_metrics = {name: values[-1] for name, values in call_metrics.items() if name.startswith("completions/")}
        for name in call_metrics.keys() - length_metrics.keys():
            self._metrics["train"][name] = call_metrics[name]
        collection.add_call(rows, self.accelerator.process_index, rewards, length_metrics)

    def _handle_shortage(self, pool: GroupPool) -> None:
        message = shortage_message(pool, self.args.max_rounds, len(self._prompts))
        if self.args.on_shortage == "raise":
            raise ShortageError(message)
        num_rows = len(pool.accepted) * self.num_generations
        if num_rows < self.args.updates_per_rollout:
            raise ShortageError(
                f"{message} {num_rows} rows cannot fill {self.args.updates_per_rollout} optimizer steps."
            )
        logger.warning(f"{message} Training on these, because on_shortage='train_partial'.")

    def _warn_if_constant(self, collection: Collection) -> None:
        if not collection.rewards:
            return
        rewards = collection.rewards_per_func()
        deciding = rewards[:, self._deciding_reward]
        total = total_rewards(rewards, self.reward_weights)
        scored, shaped = deciding[~deciding.isnan()], total[~total.isnan()]
        if len(scored) and scored.max() == scored.min() and shaped.max() > shaped.min():
            logger.warning(
                f"The deciding reward {self.reward_func_names[self._deciding_reward]!r} is {scored[0].item()} for all "
                f"{len(scored)} completions of this rollout, while the total reward is not constant: there is no group "
                "to train on. Check that this reward reads the model's answers, and that dynamic_sampling_metric names "
                "the right one."
            )

    # Replay: the parent scores the kept rows

    def _build_replay(self, pool: GroupPool, collection: Collection) -> Replay:
        """Moves the kept rows so that groups are contiguous and processes have equally many, as the parent wants."""
        num_processes, num_generations = self.accelerator.num_processes, self.num_generations
        kept = collection.kept_numbers(pool)
        whole = math.lcm(num_generations, num_processes)
        num_slots = -(-len(kept) // whole) * whole
        share = num_slots // num_processes

        outgoing = [[] for _ in range(num_processes)]
        for position, number in enumerate(kept):
            if number in collection.rows:
                row = collection.rows[number]
                row.extra[FATE_COLUMN] = "kept"
                outgoing[position // share].append((position, row))
        received = sorted(exchange(outgoing, self.accelerator), key=lambda item: item[0])
        rows = [row for _, row in received]
        filler = filler_completion(dict(self._prompts[0]), self.eos_token_ids[0])
        rewards = collection.rewards_per_func()[kept]
        missing = rewards.new_full((num_slots - len(kept), rewards.size(1)), torch.nan)
        return Replay(
            rows + [filler] * (share - len(rows)),
            torch.cat([rewards, missing]),
            num_rows=len(kept),
            has_logprobs=self.use_vllm,
        )

    @contextlib.contextmanager
    def _replaying(self, replay: Replay) -> Iterator[None]:
        self._replayed = replay
        try:
            yield
        finally:
            self._replayed = None

    def _generate(self, prompts):
        if self._replayed is not None:
            return self._replayed.generation()
        return super()._generate(prompts)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        if self._replayed is not None:
            self._pending_extra_logs.update(self._replayed.extra_columns())
            return self._replayed.rewards
        rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.args.dynamic_sampling and not self.model.training:
            # All columns of the completions table must be equally long.
            self._pending_extra_logs[FATE_COLUMN].extend(["evaluation"] * len(prompts))
        if not self.args.dynamic_sampling and self.model.training:
            self._record_overlong(rewards_per_func)
        return rewards_per_func

    # Metrics

    def _record_metrics(self, pool: GroupPool, collection: Collection) -> None:
        """Rewards and lengths of all generated rows, where the parent saw the kept ones only; and how they were found."""
        metrics, rewards = self._metrics["train"], collection.rewards_per_func()
        metrics["dynamic_sampling/trained_reward"].append(metrics["reward"][-1])
        generated = reward_metrics(rewards, self.reward_weights, self.reward_func_names, self.num_generations)
        for name, value in generated.items():
            metrics[name][-1] = value
        for name, value in collection.completion_metrics().items():
            metrics[name].append(value)
        for name, value in pool.metrics().items():
            metrics[f"dynamic_sampling/{name}"].append(value)
        metrics["dynamic_sampling/epoch"] = [self._prompt_stream.epoch]
        self._record_overlong(rewards)

    def _record_overlong(self, rewards_per_func: torch.Tensor) -> None:
        if self._overlong_reward is not None:
            frac = (rewards_per_func[:, self._overlong_reward] < 0).float().mean().item()
            self._metrics["train"]["overlong/frac_penalized"].append(frac)

    def _complete_table(self, pool: GroupPool, collection: Collection, num_fillers: int) -> None:
        """The main process gets the dropped rows for the completions table."""
        dropped = []
        for number, row in collection.rows.items():
            fate = collection.fate(number, pool)
            if fate != "kept":
                row.extra[FATE_COLUMN] = fate
                dropped.append((number, row))
        nobody_else = [[] for _ in range(self.accelerator.num_processes - 1)]
        rows = sorted(exchange([dropped, *nobody_else], self.accelerator), key=lambda item: item[0])
        if self.accelerator.is_main_process:
            remove_last(self._logs, num_fillers)
            append_dropped(self._logs, rows, collection.rewards_per_func(), self.reward_func_names)

    def _compute_loss(self, model, inputs):
        if "num_trained_tokens" not in inputs:
            return super()._compute_loss(model, inputs)
        recorded, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        loss = super()._compute_loss(model, inputs)
        micro_batch_metrics, self._metrics["train"] = self._metrics["train"], recorded
        self._micro_batch_metrics.add(micro_batch_metrics, inputs["num_trained_tokens"])
        for name, values in micro_batch_metrics.items():
            self._metrics["train"][name].extend(values)
        return loss

    def log(self, logs, start_time=None):
        if self.model.training:
            for name, value in self._micro_batch_metrics.flush().items():
                self._metrics["train"][name] = [value]
        super().log(logs, start_time)

    # Stopping and resuming

    def _run_epoch(self, **kwargs):
        try:
            super()._run_epoch(**kwargs)
        except ShortageError as shortage:
            if self.args.save_strategy != "no":
                self._save_checkpoint(kwargs["model"], kwargs["trial"])
                self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            if self.args.on_shortage == "raise":
                raise
            logger.warning(f"Training ends before optimizer step {self.state.global_step + 1}. {shortage}")
            self.control.should_training_stop = True

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if not self.args.owns_batches:
            return
        is_in_use = self._rollout is not None and self._step % self._micro_steps_per_rollout != 0
        state = {
            "num_processes": self.accelerator.num_processes,
            "optimizer_steps_per_rollout": self._optimizer_steps_per_rollout,
            "rollout": rollout_state(self._rollout) if is_in_use else None,
        }
        if self.args.dynamic_sampling:
            state["prompt_stream"] = self._prompt_stream.state_dict()
            state["acceptance"] = self._acceptance.state_dict()
        save_state(state, output_dir, self.accelerator.process_index)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if checkpoint is None or not self.args.owns_batches:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        self._rollout = None
        state = load_state(checkpoint, self.accelerator.process_index) or load_state(checkpoint, 0)
        if state is None:
            self._skip_trained_prompts(checkpoint)
            return
        if state["optimizer_steps_per_rollout"] != self._optimizer_steps_per_rollout:
            raise CheckpointError(
                f"{checkpoint} was written with {state['optimizer_steps_per_rollout']} optimizer steps per rollout, "
                f"but this run has {self._optimizer_steps_per_rollout} (updates_per_rollout="
                f"{self.args.updates_per_rollout} * num_iterations={self.num_iterations}). Resume with the same."
            )
        if self.args.dynamic_sampling and "prompt_stream" in state:
            self._prompt_stream.load_state_dict(state["prompt_stream"])
            self._acceptance.load_state_dict(state["acceptance"])
        if state["rollout"] is not None:
            self._rollout = self._restore_rollout(checkpoint, state)

    def _restore_rollout(self, checkpoint: str, state: dict) -> Rollout:
        plan = self._plan(*plan_inputs_from_state(state["rollout"]))
        mine = {row for row, owner in plan.owners().items() if owner == self.accelerator.process_index}
        rows = rows_from_state(state["rollout"])
        # Written by another number of processes: the rows may be in any of its files.
        for process in range(state["num_processes"]):
            if mine <= rows.keys():
                break
            other = load_state(checkpoint, process)
            rows |= rows_from_state(other["rollout"]) if other else {}
        if not mine <= rows.keys():
            raise CheckpointError(
                f"{checkpoint} lacks {len(mine - rows.keys())} rows of the rollout in use: the files of some of its "
                f"{state['num_processes']} processes are missing. Put them back, or resume from another checkpoint."
            )
        return Rollout(plan, {number: rows[number] for number in mine}, state["rollout"]["filler"])

    def _skip_trained_prompts(self, checkpoint: str) -> None:
        logger.warning(
            f"{checkpoint} holds no state of DAPOTrainer (it was written by another trainer, or with save_only_model). "
            "A rollout in use is generated anew, and the prompts of the rollouts trained so far are passed over."
        )
        if self.args.dynamic_sampling:
            for _ in range(self.state.global_step // self._optimizer_steps_per_rollout):
                self._prompt_stream.begin_rollout()
                self._prompt_stream.draw(self.args.prompts_per_rollout)


def _as_list(value: Any) -> list:
    """A copy of the list, or a list of the one value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _loss_mask(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Tokens that enter the loss, `(B, T)`: not those of an environment, nor those of masked completions."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask
