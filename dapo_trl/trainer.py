"""DAPOTrainer: Algorithm 1 of the DAPO paper on top of TRL's GRPOTrainer."""

import math

import torch
from accelerate.logging import get_logger
from datasets import Dataset
from tqdm.auto import tqdm

from .batching import deal_rows
from .batching.rollout import weigh_by_group
from .checks.arguments import as_list, check_callbacks, check_supported, own_args
from .checks.data import check_dataset_size, check_datasets, check_prompts
from .checks.model import check_model, check_optimizers, check_policy, check_reference, warn_of_other_reference
from .checks.returned_rewards import RewardValueError
from .checks.rewards import (
    add_overlong_punishment,
    check_best_metric,
    check_reward_weights,
    check_rewards,
    deciding_rewards,
)
from .config import DAPOConfig
from .distributed.all_to_all import assert_agreement
from .generation.vllm import ServerError, check_weight_transfer, generating_with
from .monitoring.completions_table import reset_table
from .monitoring.metrics import only_value
from .publishing_trainer import PublishingGRPOTrainer
from .run.preemption import PreemptedError
from .run.random_state import get_random_state, set_random_state
from .sampling import (
    AcceptanceRate,
    GroupPool,
    Hints,
    Outcome,
    PromptStream,
    check_filled,
    deciding_values,
    equal_share_multiple,
    group_outcomes,
    prompts_fingerprint,
    round_size,
)
from .sampling.collection import (
    FATE_COLUMN,
    Collection,
    Replay,
    build_replay,
    columns_to_rows,
    filler_completion,
    generated_rows,
)


logger = get_logger(__name__)


class DAPOTrainer(PublishingGRPOTrainer):
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

    Methods of the parents that are overridden, and why:

    - `_prepare_inputs`: deals the rollout's rows to optimizer steps and cuts balanced micro-batches, each with the
      count that makes TRL's normalizer exact.
    - `_generate_and_score_completions`: fills the rollout with informative groups first, then lets the parent score
      exactly these.
    - `_generate`, `_calculate_rewards`: answer from the collected rows while the parent scores them. These two and
      the one before are timed. Rewards that training cannot use are refused.
    - `evaluation_loop`: adds avg@k, and puts the random state back.
    - `_generate_single_turn`: where Transformers generates, completions that have ended leave the batch, and nothing
      is drawn by settings of the model's own generation configuration.
    - `_get_per_token_logps_and_entropies`: old and reference log-probabilities without needless padding; in the loss,
      0 for tokens that are not trained on, whose exponentials could overflow before TRL masks them.
    - `training_step`: on a CPU, the LM head works in small tiles; when memory runs out, the error says which fields
      lower the need.
    - `_compute_loss`: weighs the parent's metrics by tokens, and takes the probabilities that
      `_get_per_token_logps_and_entropies` computed. `log`: hands these metrics over, and takes secrets out of the
      table of completions.
    - `_get_grad_norm`: loss and gradient of an optimizer step are known, and no weight has changed: a step that is not
      finite raises an alarm, and is left out.
    - `train`: begins afresh whatever was trained before, and ends at once if the checkpoint is the end of the run, as
      `_prepare_for_training` finds out.
    - `_run_epoch`: a rollout that cannot be filled, an alarm, a reward that training cannot use, SIGTERM, or a vLLM
      server that is lost ends the run with a checkpoint. `_evaluate`: SIGTERM in an evaluation before the first step,
      too.
    - `_save`: beside the weights, by which rule the rewards read answers, and what generation needs to know; no
      secret is pickled.
    - `_save_checkpoint`: weights that are not finite are not saved; a checkpoint that is written again counts as
      half-written until its end.
    - `_save_rng_state`, `_load_rng_state`: the prompt stream and the rollout in use are saved and restored where the
      random state is.
    - `init_hf_repo`, `_push_from_checkpoint`, `_finish_current_push`, `push_to_hub`: pushes are complete, go to a
      branch per step if asked, never stop the run, and tell when they fail.
    - `create_model_card`: our own card.

    Raises:
        ValueError: for arguments that cannot work together; the message says what to change.
    """

    _tag_names = ["trl", "dapo"]
    _name = "DAPO"

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
        # The parent changes arguments in place; the caller's objects stay as they are.
        check_model(model, processing_class, getattr(args, "trust_remote_code", False))
        args, reward_funcs = own_args(args, model), as_list(reward_funcs)
        check_reference(model, peft_config, args.beta)
        check_weight_transfer(args)
        is_generated_elsewhere = rollout_func is not None or environment_factory is not None
        check_supported(args, train_dataset, tools, environment_factory)
        datasets = check_datasets(args, train_dataset, eval_dataset)
        check_rewards(reward_funcs, args, datasets, is_generated_elsewhere)
        check_callbacks(callbacks)
        check_optimizers(optimizers)
        check_dataset_size(args, train_dataset)
        check_reward_weights(args, len(reward_funcs))
        num_task_rewards = len(reward_funcs)
        reward_processing_classes = as_list(reward_processing_classes) or None
        if args.soft_punish_cache is not None:
            add_overlong_punishment(args, reward_funcs, reward_processing_classes)
        with generating_with(args, datasets.values(), lambda: self.state.global_step):
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
        check_policy(self.model, self._tokenizer, self.optimizer, args)
        is_sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if self.ref_model is not None and not isinstance(model, str) and not is_sharded:
            warn_of_other_reference(self.model, self.accelerator.unwrap_model(self.ref_model), args.beta)
        check_prompts(datasets, self.processing_class, self.model, args, is_generated_elsewhere)
        self._replayed: Replay | None = None
        self._overlong_reward = num_task_rewards if args.soft_punish_cache is not None else None
        self._deciding_rewards = deciding_rewards(args, self.reward_func_names, num_task_rewards)
        check_best_metric(args, eval_dataset, reward_funcs, self.reward_func_names, bool(self._deciding_rewards))
        if args.dynamic_sampling:
            self._open_prompt_stream()

    def _begin_afresh(self):
        super()._begin_afresh()
        self._replayed = None
        if self.args.dynamic_sampling:
            self._open_prompt_stream()

    # Dynamic sampling: Algorithm 1, lines 2 to 8

    def _open_prompt_stream(self) -> None:
        self._prompts: Dataset = self._remove_unused_columns(self.train_dataset, description="training")
        fingerprint = prompts_fingerprint(self._prompts["prompt"])
        self._prompt_stream = PromptStream(len(self._prompts), self.args.seed, self.args.shuffle_dataset, fingerprint)
        self._acceptance = AcceptanceRate()

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        if self.args.dynamic_sampling:
            scored = self._generate_and_score_informative_groups()
        else:
            scored = super()._generate_and_score_completions(inputs)
            self._note_training(self._generated_rewards, scored["num_items_in_batch"].item())
        if self.use_vllm and self.vllm_importance_sampling_correction:
            self._record_correction(scored)
        if self.args.token_normalization == "group":
            scored["advantages"] = weigh_by_group(scored, self.accelerator, self.num_generations)
        return scored

    def _generate_and_score_informative_groups(self) -> dict[str, torch.Tensor]:
        """Collects a rollout, then lets the parent pad it and compute log-probabilities and advantages, once."""
        before = self._prompt_stream.state_dict(), self._acceptance.state_dict(), get_random_state()
        try:
            pool, collection = self._collect_informative_groups()
        except (PreemptedError, RewardValueError, ServerError):
            # The rollout in the making is abandoned: resumed, the run makes the very same one.
            self._prompt_stream.load_state_dict(before[0])
            self._acceptance.load_state_dict(before[1])
            set_random_state(before[2])
            raise
        filler = filler_completion(dict(self._prompts[0]), self.eos_token_ids[0])
        with self.phases.measure("exchange"):
            replay = build_replay(collection, pool, self.accelerator, filler, has_logprobs=self.use_vllm)
        self._num_rows_to_train = replay.num_rows
        if self.log_completions:
            reset_table(self._logs, collection.num_rows + replay.num_fillers)
        self._replayed = replay
        try:
            scored = super()._generate_and_score_completions(replay.inputs())
        finally:
            self._replayed = None
        # Each filler is a token.
        num_tokens = scored["num_items_in_batch"].item() - replay.num_fillers
        self._note_training(replay.rewards[: replay.num_rows], num_tokens)
        self._record_collection(pool, collection)
        self._metrics["train"]["dynamic_sampling/epoch"] = [self._prompt_stream.epoch]
        if self.log_completions:
            self._complete_table(pool, collection, replay.num_fillers)
        return scored

    def _deal(self, num_rows: int) -> list[list[int]]:
        """Rows of each optimizer step: a permutation in draw order, the same for any number of processes."""
        if not self.args.dynamic_sampling:
            return super()._deal(num_rows)
        num_rollouts = self.state.global_step // self._optimizer_steps_per_rollout
        return deal_rows(num_rows, self.args.updates_per_rollout, seed=self.args.seed + 7919 * (num_rollouts + 1))

    def _collect_informative_groups(self) -> tuple[GroupPool, Collection]:
        """Generates in rounds until the rollout is full of informative groups."""
        pool = GroupPool(self.args.prompts_per_rollout)
        collection = Collection(self.num_generations, keeps_dropped=self.log_completions)
        self._prompt_stream.begin_rollout()
        with tqdm(
            total=pool.size,
            desc="Informative groups",
            leave=False,
            disable=self.args.disable_tqdm or not self.accelerator.is_main_process,
        ) as progress:
            while indices := self._draw_prompts(pool):  # line 2
                num_before = collection.num_rows
                self._generate_and_score_round(indices, collection)  # lines 4 and 5
                deciding = deciding_values(collection.rewards_per_func()[num_before:], self._deciding_rewards)
                outcomes = group_outcomes(deciding.view(-1, self.num_generations), self._correct_threshold)
                pool.add_round(outcomes)  # line 6
                self._acceptance.observe(outcomes.count(Outcome.INFORMATIVE), len(outcomes))
                collection.drop_rejected(pool)
                self._stop_if_preempted()
                progress.update(len(pool.accepted) - progress.n)
                progress.set_postfix(rounds=pool.num_rounds, generated=pool.num_drawn)
        if collection.rewards:
            self._warn_of_deciding_rewards(collection.rewards_per_func())
        shortage = check_filled(
            pool,
            self._remedy_hints(collection),
            is_partial_allowed=self.args.on_shortage == "train_partial",
            min_groups=-(-self.args.updates_per_rollout // self.num_generations),
            max_rounds=self.args.max_rounds,
            num_prompts=len(self._prompts),
        )
        if shortage:
            logger.warning(shortage)
        return pool, collection

    def _remedy_hints(self, collection: Collection) -> Hints:
        """What a shortage is to say of the completions beside the outcomes of their groups."""
        if not collection.rewards:
            return Hints()
        deciding = deciding_values(collection.rewards_per_func(), self._deciding_rewards)
        return Hints(only_value(deciding), collection.completion_metrics()["completions/clipped_ratio"])

    def _draw_prompts(self, pool: GroupPool) -> list[int]:
        """Prompts of the next round, as many as will probably fill the rollout; none when no round is to follow."""
        indices = []
        if pool.num_missing > 0 and pool.num_rounds < self.args.max_rounds:
            equal_share = equal_share_multiple(self.num_generations, self.accelerator.num_processes)
            num_prompts = round_size(
                pool.num_missing,
                acceptance=self._acceptance.estimate(),
                max_prompts=int(self.args.max_oversampling * pool.size),
                # A 64th of the rollout in any case: large and small numbers of processes draw the same rounds.
                multiple_of=math.lcm(equal_share, max(1, pool.size // 64)),
            )
            indices = self._prompt_stream.draw(num_prompts, multiple_of=equal_share)
        plan = {"round": pool.num_rounds, "prompts": len(indices), "first_prompt": indices[0] if indices else -1}
        assert_agreement(plan, self.accelerator)
        return indices

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

        with self._recorded_metrics() as recorded:
            generation = self._generate(prompts)
        extra_fields, images = generation[5], generation[6]
        if images is not None:
            raise ValueError("A prompt holds an image, which dynamic_sampling does not support. Set it to false.")
        for i, row in enumerate(inputs):
            row.update({key: value[i] if isinstance(value, list) else value for key, value in extra_fields.items()})
        rewards = self._calculate_rewards(
            inputs, prompts, completions=generation[3], completion_ids_list=generation[1]
        )
        extra = columns_to_rows(self._pending_extra_logs, num_rows)
        self._pending_extra_logs.clear()

        length_metrics = {name: values[-1] for name, values in recorded.items() if name.startswith("completions/")}
        for name in recorded.keys() - length_metrics.keys():
            self._metrics["train"][name] = recorded[name]
        rows = generated_rows(inputs, generation, extra)
        collection.add_call(rows, self.accelerator.process_index, rewards, length_metrics)

    # Replay: the parent scores the kept rows

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
        return rewards_per_func

    # Resuming

    def _sampling_state(self):
        if not self.args.dynamic_sampling:
            return {}
        return {"prompt_stream": self._prompt_stream.state_dict(), "acceptance": self._acceptance.state_dict()}

    def _restore_sampling_state(self, state, checkpoint):
        if not state or ("prompt_stream" in state) != self.args.dynamic_sampling:
            logger.warning(
                f"{checkpoint} holds no state of DAPOTrainer for dynamic_sampling={self.args.dynamic_sampling}: it "
                "was written by another trainer, with another setting, or with save_only_model. As many prompts are "
                "passed over as were trained. A rollout in use is generated anew if it is not stored."
            )
        if not self.args.dynamic_sampling:
            return
        if "prompt_stream" in state:
            self._prompt_stream.load_state_dict(state["prompt_stream"])
            self._acceptance.load_state_dict(state["acceptance"])
            return
        for _ in range(self.state.global_step // self._optimizer_steps_per_rollout):
            self._prompt_stream.begin_rollout()
            self._prompt_stream.draw(self.args.prompts_per_rollout)
