"""Settings that do not fit the length of a run, which is known when it begins."""

from itertools import takewhile
from typing import Any

from accelerate.logging import get_logger
from transformers import TrainerCallback


logger = get_logger(__name__)

MAX_POINTS = 10_000
"""Optimizer steps of a long run at which the schedule is looked at."""

ARRIVED = 0.99
"""Share of `learning_rate` at which it counts as reached."""


def schedule_factors(scheduler: Any, num_steps: int) -> list[tuple[int, float]]:
    """
    Shares of `learning_rate` in the course of a run.

    Args:
        scheduler (`Any`): Trainer's, maybe wrapped.
        num_steps (`int`): optimizer steps of the run.

    Returns:
        `list[tuple[int, float]]`: steps and shares; none for a schedule that is no function of the step.
    """
    functions = getattr(_unwrapped(scheduler), "lr_lambdas", None)
    if not functions:
        return []
    return [(step, functions[0](step)) for step in range(0, num_steps, -(-num_steps // MAX_POINTS))]


def _unwrapped(scheduler: Any) -> Any:
    return _unwrapped(scheduler.scheduler) if hasattr(scheduler, "scheduler") else scheduler


def odd_lengths(
    args: Any, num_steps: int, logging_steps: int, eval_steps: int, factors: list[tuple[int, float]]
) -> list[str]:
    """
    What does not fit the length of a run.

    Args:
        args (`DAPOConfig`): the configuration.
        num_steps (`int`): optimizer steps of the run.
        logging_steps, eval_steps (`int`): optimizer steps between two logs or evaluations.
        factors (`list[tuple[int, float]]`): see [`schedule_factors`].

    Returns:
        `list[str]`: warnings, each with field, value, rule, and what to change.
    """
    length = f"max_steps={args.max_steps}" if args.max_steps > 0 else f"num_train_epochs={args.num_train_epochs:g}"
    if args.max_steps <= 0:
        length += f" ({num_steps} optimizer steps)"
    return [
        *_odd_warmup(args, num_steps, length, factors),
        *_odd_decay(args, num_steps, factors),
        *_odd_end(args, num_steps, length),
        *_odd_intervals(args, num_steps, length, logging_steps, eval_steps),
    ]


def _odd_warmup(args: Any, num_steps: int, length: str, factors: list[tuple[int, float]]) -> list[str]:
    num_warmup = sum(1 for _ in takewhile(lambda item: item[1] < ARRIVED, factors))
    if not factors or num_warmup <= len(factors) / 2:
        return []
    steps = args.get_warmup_steps(num_steps)
    field = f"warmup_steps={args.warmup_steps:g}"
    remedy = "Lower warmup_steps"
    if args.warmup_steps == args.warmup_rollouts * args.optimizer_steps_per_rollout:
        field = f"warmup_rollouts={args.warmup_rollouts} ({steps} optimizer steps)"
        remedy = "Lower warmup_rollouts"
    highest = args.learning_rate * max(factor for _, factor in factors)
    reached = "is never reached" if num_warmup == len(factors) else "is reached in the second half only"
    return [
        f"{field} is too long for {length}: learning_rate={args.learning_rate:g} {reached} (the highest rate is "
        f"{highest:.2g}). {remedy}, or train longer."
    ]


def _odd_decay(args: Any, num_steps: int, factors: list[tuple[int, float]]) -> list[str]:
    num_idle = sum(1 for _ in takewhile(lambda item: item[1] <= 1e-6, reversed(factors)))
    if num_idle <= max(1, 0.02 * len(factors)) or num_idle == len(factors):
        return []
    first = factors[-num_idle][0]
    kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    return [
        f"lr_scheduler_type={kind!r} with lr_scheduler_kwargs={args.lr_scheduler_kwargs} brings the learning rate to "
        f"0 at step {first} of {num_steps}: nothing is trained from there on. Change lr_scheduler_kwargs, or lower "
        "max_steps."
    ]


def _odd_end(args: Any, num_steps: int, length: str) -> list[str]:
    steps = args.optimizer_steps_per_rollout
    rollouts, rest = divmod(num_steps, steps)
    if not rest:
        return []
    fitting = " or ".join(str(number * steps) for number in (rollouts, rollouts + 1) if number)
    return [
        f"{length} ends in the middle of a rollout: the last one is trained on in {rest} of its {steps} optimizer "
        f"steps, and its other completions were generated for nothing. Set max_steps to {fitting}."
    ]


def _odd_intervals(args: Any, num_steps: int, length: str, logging_steps: int, eval_steps: int) -> list[str]:
    intervals = {
        "logging_steps": (args.logging_strategy, logging_steps, "nothing is logged, and no alarm can be raised"),
        "eval_steps": (args.eval_strategy, eval_steps, "the model is never evaluated"),
    }
    return [
        f"{name}={interval} is more than {length}: {effect}. Lower {name}, or train longer."
        for name, (strategy, interval, effect) in intervals.items()
        if getattr(strategy, "value", strategy) == "steps" and interval > num_steps
    ]


class RunLengthCallback(TrainerCallback):
    """Warns once, on the main process, when a run begins: see [`odd_lengths`]."""

    def on_train_begin(self, args, state, control, lr_scheduler=None, **kwargs):
        factors = schedule_factors(lr_scheduler, state.max_steps)
        messages = odd_lengths(args, state.max_steps, state.logging_steps, state.eval_steps, factors)
        rates = getattr(_unwrapped(lr_scheduler), "base_lrs", [])
        if state.global_step > 0 and rates and args.learning_rate not in rates:
            messages.append(
                f"learning_rate={args.learning_rate:g} has no effect: the checkpoint goes on with its own, "
                f"{max(rates):g}. Start from its weights instead (model_name_or_path) to change the rate."
            )
        for message in messages:
            logger.warning(message)
