"""Settings of a DAPO run: what differs from GRPO, and every check across fields."""

import math
from dataclasses import dataclass, field
from numbers import Real

from trl import GRPOConfig

from .checks.field_combinations import check_combinations
from .checks.field_values import check_values
from .checks.field_warnings import warn_about
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

    Parameters:
        epsilon (`float`, *optional*, defaults to `0.2`):
            Lower clip bound (Sec. 3.1).
        epsilon_high (`float`, *optional*, defaults to `0.28`):
            Upper clip bound: clip-higher (Sec. 3.1).
        num_generations (`int`, *optional*, defaults to `16`):
            Completions per prompt, G.
        updates_per_rollout (`int`, *optional*, defaults to `16`):
            Optimizer steps per pass over a rollout. Sets `steps_per_generation = updates_per_rollout *
            gradient_accumulation_steps`. If `steps_per_generation` or `generation_batch_size` is given, that decides,
            and this field is overwritten with the number it amounts to.
        warmup_rollouts (`int`, *optional*, defaults to `20`):
            Linear warm-up of the learning rate, in rollouts, counted in all optimizer steps of a rollout. A given
            `warmup_steps` wins.
        dynamic_sampling (`bool`, *optional*, defaults to `True`):
            Train only on groups in which some completions are right and some are not (Sec. 3.2), and draw further
            prompts until a rollout is full of them.
        dynamic_sampling_metric (`str` or `list[str]`, *optional*):
            Name of the reward function that decides whether a completion is right. Several names, where each function
            scores the completions of its own task and returns None for the others: the first of them that scores a
            completion decides. May be left out with exactly one reward function.
        correct_threshold (`float`, *optional*):
            A completion counts as correct if its deciding reward is above this. `None`: above 0, as long as the
            deciding reward has one value for right and one for wrong; of a graded one nobody knows what is correct,
            and no accuracy is reported. Groups are filtered on differences in any case.
        max_rounds (`int`, *optional*, defaults to `10`):
            Generation rounds per rollout before it counts as a shortage.
        on_shortage (`str`, *optional*, defaults to `"train_partial"`):
            What happens when a rollout cannot be filled: `"train_partial"` trains on the groups there are, `"raise"`
            saves a checkpoint and stops with an error.
        max_oversampling (`float`, *optional*, defaults to `3.0`):
            Bound on the prompts of one round, as a multiple of the prompts of a rollout.
        soft_punish_cache (`int`, *optional*):
            Width in tokens of the interval before `max_completion_length` in which the soft overlong punishment
            (Eq. 13) grows from 0 to -1: L_cache. `None`: no punishment.
        overlong_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the soft overlong punishment in the reward.
        token_normalization (`str`, *optional*, defaults to `"step"`):
            `"step"` divides by the trained tokens of the optimizer step (Eq. 12); `"group"` by those of each prompt's
            group (Eq. 8 read literally).
        balance_micro_batches (`bool`, *optional*, defaults to `True`):
            Cut each optimizer step into micro-batches of nearly equal cost instead of equal row counts: the same
            gradient with less padding.
        compact_generation (`bool`, *optional*, defaults to `True`):
            Where Transformers generates, completions that have ended leave the batch, which TRL computes on until the
            longest has ended: the same distribution in less time, with other random numbers. Without effect if
            `dynamic_sampling` and `balance_micro_batches` are both off, with vLLM or continuous batching, under
            DeepSpeed ZeRO-3 and FSDP, and for caches from which no rows can be taken (static, quantized, state-space).
        vllm_request_timeout (`float`, *optional*, defaults to `1200.0`):
            Seconds after which a request to the vLLM server without an answer counts as hung. Every group is a
            request, and those of a round are under way together. With several processes it must end before
            `ddp_timeout` does.
        vllm_max_retries (`int`, *optional*, defaults to `4`):
            Further attempts, with growing pauses, when the vLLM server fails. Before each, the server is waited for
            up to `vllm_server_timeout` seconds and gets the weights anew.

        eval_rollouts (`int`, *optional*):
            Evaluate every so many rollouts: sets `eval_strategy` to `"steps"` and `eval_steps` to their optimizer
            steps. `None`: TRL's two fields decide.
        on_alarm (`str`, *optional*, defaults to `"warn"`):
            What happens when a run goes wrong (see [`~dapo_trl.monitoring.AlarmCallback`]): `"warn"`, or `"stop"` to
            end it with a checkpoint as well.

    > [!NOTE]
    > These parameters have default values different from [`~trl.GRPOConfig`]:
    > - `lr_scheduler_type`: `"constant_with_warmup"` instead of `"linear"`.
    > - `warmup_steps`: `None`, computed from `warmup_rollouts`.
    > - `logging_steps`: `None`, one record per rollout.
    > - `metric_for_best_model`: with `load_best_model_at_end`, `"eval_avg@k"` instead of `"loss"`; the letter k stands
    >   for `num_generations_eval`.
    > - `disable_dropout`: `True` instead of `False`: with dropout, importance ratios are not 1 at the start of a
    >   rollout.
    > - `num_generations_eval`: fitted to the evaluation batch if not given.
    > - `vllm_importance_sampling_mode`: `"token_truncate"` instead of `"sequence_mask"`, with
    >   `vllm_importance_sampling_clip_max` `2.0`: a correction by sequence masks long completions.
    """

    epsilon_high: float | None = field(
        default=0.28, metadata={"help": "Upper clip bound: clip-higher (DAPO Sec. 3.1)."}
    )
    num_generations: int | None = field(default=16, metadata={"help": "Completions per prompt, G."})
    updates_per_rollout: int = field(
        default=16,
        metadata={
            "help": "Optimizer steps per pass over a rollout. Sets steps_per_generation; overwritten with the real "
            "number if steps_per_generation or generation_batch_size is given."
        },
    )
    warmup_rollouts: int = field(
        default=20,
        metadata={"help": "Linear warm-up of the learning rate in rollouts. A given warmup_steps wins."},
    )
    dynamic_sampling: bool = field(
        default=True,
        metadata={"help": "Train only on groups with right and wrong completions (DAPO Sec. 3.2)."},
    )
    # In this order, the command line takes one name or several.
    dynamic_sampling_metric: list[str] | None | str = field(
        default=None,
        metadata={
            "help": "Name of the reward function that decides whether a completion is right; or several names, of "
            "which the first that does not return None decides. May be left out with exactly one reward function."
        },
    )
    correct_threshold: float | None = field(
        default=None,
        metadata={
            "help": "A completion counts as correct if its deciding reward is above this. None: above 0, and no "
            "accuracy is reported if the reward turns out to be graded. Groups are filtered on differences anyway."
        },
    )
    max_rounds: int = field(
        default=10, metadata={"help": "Generation rounds per rollout before it counts as a shortage."}
    )
    on_shortage: str = field(
        default="train_partial",
        metadata={
            "help": "What happens when a rollout cannot be filled with informative groups.",
            "choices": ["train_partial", "raise"],
        },
    )
    max_oversampling: float = field(
        default=3.0,
        metadata={"help": "Bound on the prompts of one round, as a multiple of the prompts of a rollout."},
    )
    soft_punish_cache: int | None = field(
        default=None,
        metadata={
            "help": "Tokens before max_completion_length in which the soft overlong punishment (DAPO Eq. 13) grows "
            "from 0 to -1. None: no punishment."
        },
    )
    overlong_weight: float = field(
        default=1.0, metadata={"help": "Weight of the soft overlong punishment in the reward."}
    )
    token_normalization: str = field(
        default="step",
        metadata={
            "help": "Divide by the trained tokens of the optimizer step (DAPO Eq. 12) or of each group (Eq. 8).",
            "choices": ["step", "group"],
        },
    )
    balance_micro_batches: bool = field(
        default=True,
        metadata={"help": "Micro-batches of nearly equal cost: the same gradient with less padding."},
    )
    compact_generation: bool = field(
        default=True,
        metadata={
            "help": "Where Transformers generates, completions that have ended leave the batch: the same distribution "
            "in less time."
        },
    )
    vllm_request_timeout: float = field(
        default=1200.0,
        metadata={"help": "Seconds after which a request to the vLLM server without an answer counts as hung."},
    )
    vllm_max_retries: int = field(
        default=4, metadata={"help": "Further attempts, with growing pauses, when the vLLM server fails."}
    )
    eval_rollouts: int | None = field(
        default=None,
        metadata={"help": "Evaluate every so many rollouts. None: eval_strategy and eval_steps decide."},
    )
    on_alarm: str = field(
        default="warn",
        metadata={
            "help": "What happens when a run goes wrong: a warning, or also a clean end with a checkpoint.",
            "choices": ["warn", "stop"],
        },
    )

    disable_dropout: bool = field(
        default=True,
        metadata={
            "help": "Switch off dropout in the model and its adapters: completions are generated without, so that the "
            "policy that is trained would not be the one that generated."
        },
    )
    logging_steps: float | None = field(
        default=None,
        metadata={
            "help": "Log every so many optimizer steps (a number below 1 is a share of all steps). None: once per "
            "rollout."
        },
    )
    lr_scheduler_type: str = field(default="constant_with_warmup", metadata={"help": "Schedule of the learning rate."})
    warmup_steps: float | None = field(
        default=None,
        metadata={
            "help": "Linear warm-up in optimizer steps (a number below 1 is a share of all steps). None: "
            "warmup_rollouts decides."
        },
    )
    vllm_importance_sampling_mode: str = field(
        default="token_truncate",
        metadata={"help": "How the mismatch between vLLM and the trainer is corrected (see GRPOConfig)."},
    )
    vllm_importance_sampling_clip_max: float | None = field(
        default=2.0, metadata={"help": "Upper bound of the importance sampling ratio (see GRPOConfig)."}
    )

    def __post_init__(self):
        remember(self)
        self._check_own_fields()
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
        if (self.metric_for_best_model or "").endswith("avg@k"):
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
        """Whether micro-batches are cut by this project, not by TRL."""
        return self.dynamic_sampling or self.balance_micro_batches

    def _check_own_fields(self) -> None:
        """Fields on their own."""
        check_values(self)
        threshold = self.correct_threshold
        if threshold is not None and not (isinstance(threshold, Real) and math.isfinite(threshold)):
            raise ValueError(
                f"correct_threshold={threshold!r} must be a finite number: a completion is correct if its "
                "deciding reward is above it. Set correct_threshold to a value between those of wrong and right "
                "completions, or to null."
            )
        if self.push_to_hub and self.hub_token is not None and not self.hub_token.strip():
            raise ValueError(
                "hub_token is empty, and push_to_hub needs one. Set hub_token to a token (is the variable that it "
                "comes from set?), or leave it out: then it is HF_TOKEN, or the login of this machine."
            )
        cache = self.soft_punish_cache
        if cache is not None and not 0 < cache <= (self.max_completion_length or 0):
            raise ValueError(
                f"soft_punish_cache={cache} tokens must be above 0 and at most max_completion_length="
                f"{self.max_completion_length} tokens, the end of the interval in which the punishment grows. Set "
                "soft_punish_cache accordingly (a fifth in the paper), or to null for no soft overlong punishment."
            )

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
        self.eval_strategy = "steps"
        self.eval_steps = self.eval_rollouts * self._planned_optimizer_steps

    def _check_steps(self) -> None:
        """The rollout is a whole number of optimizer steps."""
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
