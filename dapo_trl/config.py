"""Settings of a DAPO run: what differs from GRPO, and every check across fields."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy
from trl import GRPOConfig

from .checks.settings import check_combinations, check_values, warn_about
from .fields import option
from .generation.kwargs import check_generation_kwargs
from .run.secret_values import mask_values, remember


@dataclass
class DAPOConfig(GRPOConfig):
    r"""
    Configuration of [`DAPOTrainer`]: [`~trl.GRPOConfig`] with the values of the DAPO paper
    (https://huggingface.co/papers/2503.14476) as defaults, and the fields that dynamic sampling, overlong shaping and
    exact normalization need.

    A *rollout* is one generation phase: `generation_batch_size` completions. It is trained on in
    `updates_per_rollout * num_iterations` optimizer steps.

    Each field of this class is documented by its `help`; docs/configuration.md lists them.

    > [!NOTE]
    > These parameters have default values different from [`~trl.GRPOConfig`]:
    > - `lr_scheduler_type`: `"constant_with_warmup"` instead of `"linear"`.
    > - `warmup_steps`: `None`, computed from `warmup_rollouts`.
    > - `logging_steps`: `None`, one record per rollout.
    > - `metric_for_best_model`: with `load_best_model_at_end`, `"eval_avg@k"` instead of `"loss"`; the letter k stands
    >   for `num_generations_eval`.
    > - `num_generations_eval`: fitted to the evaluation batch if not given.
    > - `disable_dropout`: `True` instead of `False`.
    > - `vllm_importance_sampling_mode`: `"token_truncate"` instead of `"sequence_mask"`, which masks long completions;
    >   `vllm_importance_sampling_clip_max`: `2.0` instead of `3.0`.
    """

    epsilon_high: float | None = option(0.28, "Upper clip bound: clip-higher (DAPO Sec. 3.1).")
    num_generations: int = option(16, "Completions per prompt, G.")
    updates_per_rollout: int = option(
        16,
        "Optimizer steps per pass over a rollout. Sets steps_per_generation; overwritten with the real number if "
        "steps_per_generation or generation_batch_size is given.",
    )
    warmup_rollouts: int = option(20, "Linear warm-up of the learning rate in rollouts. A given warmup_steps wins.")
    dynamic_sampling: bool = option(True, "Train only on groups with right and wrong completions (DAPO Sec. 3.2).")
    # In this order, the command line takes one name or several.
    dynamic_sampling_metric: list[str] | None | str = option(
        None,
        "Name of the reward function that decides whether a completion is right; or several names, of which the "
        "first that does not return None decides. May be left out with exactly one reward function.",
    )
    correct_threshold: float | None = option(
        None,
        "A completion counts as correct if its filter reward is above this. None: above 0, and no accuracy is "
        "reported if the reward turns out to be graded. Groups are filtered on differences anyway.",
    )
    max_rounds: int = option(10, "Generation rounds per rollout before it counts as a shortage.")
    on_shortage: str = option(
        "train_partial",
        "When a rollout cannot be filled with informative groups: train on those there are, or end the run with a "
        "checkpoint and an error.",
        choices=["train_partial", "raise"],
    )
    max_oversampling: float = option(
        3.0, "Bound on the prompts of one round, as a multiple of the prompts of a rollout."
    )
    soft_punish_cache: int | None = option(
        None,
        "Tokens before max_completion_length in which the soft overlong punishment (DAPO Eq. 13) grows from 0 to "
        "-1. None: no punishment.",
    )
    overlong_weight: float = option(1.0, "Weight of the soft overlong punishment in the reward.")
    token_normalization: str = option(
        "step",
        "Divide by the trained tokens of the optimizer step (DAPO Eq. 12) or of each group (Eq. 8).",
        choices=["step", "group"],
    )
    balance_micro_batches: bool = option(
        True, "Partition optimizer steps into micro-batches of nearly equal cost: the same gradient, less padding."
    )
    compact_generation: bool = option(
        True,
        "Where Transformers generates, completions that have ended leave the batch: the same distribution in less "
        "time. Without effect under ZeRO-3 and FSDP, and with dynamic_sampling and balance_micro_batches both off.",
    )
    vllm_request_timeout: float = option(
        1200.0, "Seconds after which a request to the vLLM server without an answer counts as hung."
    )
    vllm_max_retries: int = option(
        4,
        "Further attempts, with growing pauses, when the vLLM server fails; before each, it is waited for "
        "(vllm_server_timeout) and gets the weights again.",
    )
    eval_rollouts: int | None = option(
        None, "Evaluate every so many rollouts. None: eval_strategy and eval_steps decide."
    )
    on_alarm: str = option(
        "warn",
        "What happens when a run goes wrong: a warning, or also a clean end with a checkpoint.",
        choices=["warn", "stop"],
    )

    disable_dropout: bool = option(
        True,
        "Switch off dropout in the model and its adapters: completions are generated without, so that the policy "
        "that is trained would not be the one that generated.",
    )
    logging_steps: float = option(
        None, "Log every so many optimizer steps (a number below 1 is a share of all steps). None: once per rollout."
    )
    lr_scheduler_type: str = option("constant_with_warmup", "Schedule of the learning rate.")
    warmup_steps: float = option(
        None,
        "Linear warm-up in optimizer steps (a number below 1 is a share of all steps). None: warmup_rollouts decides.",
    )
    vllm_importance_sampling_mode: str = option(
        "token_truncate", "How the mismatch between vLLM and the trainer is corrected (see GRPOConfig)."
    )
    vllm_importance_sampling_clip_max: float | None = option(
        2.0, "Upper bound of the importance sampling ratio (see GRPOConfig)."
    )

    if TYPE_CHECKING:
        # What these fields hold after `__post_init__`, where None has been replaced and texts have been parsed.
        output_dir: str = ""
        generation_batch_size: int = 0
        steps_per_generation: int = 0
        num_generations_eval: int = 0
        shuffle_dataset: bool = True
        eval_strategy: IntervalStrategy = IntervalStrategy.NO
        logging_strategy: IntervalStrategy = IntervalStrategy.STEPS
        save_strategy: SaveStrategy = SaveStrategy.STEPS
        hub_strategy: HubStrategy = HubStrategy.EVERY_SAVE
        accelerator_config: AcceleratorConfig = AcceleratorConfig()  # type: ignore[assignment]
        model_init_kwargs: dict[str, Any] | None = None
        generation_kwargs: dict[str, Any] | None = None
        chat_template_kwargs: dict[str, Any] | None = None
        pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        remember(self)
        check_values(self)
        self.top_k = self.top_k or 0  # Transformers takes None for the model's own, or 50
        if self.steps_per_generation is None and self.generation_batch_size is None:
            self.steps_per_generation = self.updates_per_rollout * self.gradient_accumulation_steps
        self._set_evaluation()
        is_logging_given = self.logging_steps is not None
        is_warmup_given, is_eval_group_given = self.warmup_steps is not None, self.num_generations_eval is not None
        # These depend on what the parent sets up; these values pass its checks until then.
        self.logging_steps = self.logging_steps if is_logging_given else self._planned_optimizer_steps
        self.warmup_steps = self.warmup_steps if is_warmup_given else 0
        self.num_generations_eval = self.num_generations_eval if is_eval_group_given else 1

        try:
            super().__post_init__()
        except ValueError as error:
            if "must be divisible by num_generations" not in str(error):
                raise
            raise ValueError(
                f"{error} A rollout is made of whole groups: change num_generations, or a factor of its number of "
                "completions (per_device_train_batch_size * gradient_accumulation_steps * updates_per_rollout * "
                "number of processes)."
            ) from None

        self._check_steps()
        self.updates_per_rollout = self.steps_per_generation // self.gradient_accumulation_steps
        if not is_logging_given:
            self.logging_steps = self.optimizer_steps_per_rollout
        if not is_warmup_given:
            self.warmup_steps = self.warmup_rollouts * self.optimizer_steps_per_rollout
        self._check_warmup("warmup_steps" if is_warmup_given else "warmup_rollouts")
        if not is_eval_group_given:
            global_eval_batch_size = self.per_device_eval_batch_size * self.world_size
            self.num_generations_eval = math.gcd(self.num_generations, global_eval_batch_size)
        if self.metric_for_best_model and self.metric_for_best_model.endswith("avg@k"):
            self.metric_for_best_model = f"{self.metric_for_best_model[:-1]}{self.num_generations_eval}"
        check_combinations(self)
        check_generation_kwargs(self)
        warn_about(self)

    def to_dict(self):
        """As the parent's, without secrets: this is what trackers and cards get."""
        return mask_values(super().to_dict())

    @property
    def prompts_per_rollout(self) -> int:
        """Groups that one rollout is made of, P."""
        return self.generation_batch_size // self.num_generations

    @property
    def optimizer_steps_per_rollout(self) -> int:
        """Optimizer steps in which one rollout is trained on."""
        return self.updates_per_rollout * self.num_iterations

    @property
    def owns_batches(self) -> bool:
        """Whether optimizer steps are partitioned into micro-batches by this project, not by TRL."""
        return self.dynamic_sampling or self.balance_micro_batches

    @property
    def _planned_optimizer_steps(self) -> int:
        """Optimizer steps per rollout before the parent knows the number of processes; 1 if that decides them."""
        if self.generation_batch_size is not None:
            return 1
        micro_steps = self.steps_per_generation or self.updates_per_rollout * self.gradient_accumulation_steps
        return max(1, micro_steps // self.gradient_accumulation_steps) * self.num_iterations

    def _set_evaluation(self) -> None:
        """`eval_rollouts` in the fields that the parent checks and Trainer acts on; what is best."""
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "eval_avg@k"
        if self.eval_rollouts is None:
            return
        given = {
            "eval_steps": self.eval_steps is not None,
            "eval_strategy": getattr(self.eval_strategy, "value", self.eval_strategy) not in ("no", "steps"),
            "generation_batch_size": self.generation_batch_size is not None,
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"eval_rollouts={self.eval_rollouts} cannot be combined with {name}={getattr(self, name)!r}: it "
                    "sets eval_steps from updates_per_rollout. Leave out one of them."
                )
        self.eval_strategy = IntervalStrategy.STEPS
        self.eval_steps = self.eval_rollouts * self._planned_optimizer_steps

    def _check_steps(self) -> None:
        if self.steps_per_generation % self.gradient_accumulation_steps != 0:
            raise ValueError(
                f"steps_per_generation={self.steps_per_generation} micro-batches must be a multiple of "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}, because no optimizer step may span "
                "two rollouts. Leave out steps_per_generation and generation_batch_size and set updates_per_rollout "
                "instead, or change one of them."
            )

    def _check_warmup(self, name: str) -> None:
        """`name` is the field that decided the warm-up."""
        if self.warmup_steps and self.lr_scheduler_type == "constant":
            raise ValueError(
                f"lr_scheduler_type='constant' has no warm-up, but {name}={getattr(self, name)} asks for one. Set "
                f"lr_scheduler_type to 'constant_with_warmup', or {name} to 0."
            )
