"""Warnings of settings that do not fit the length of a run, which is known when it begins."""

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from accelerate.logging import get_logger
from transformers import TrainerCallback


logger = get_logger(__name__)

MAX_POINTS = 10_000
"""Optimizer steps of a long run at which the schedule is looked at."""

ARRIVED = 0.99
"""Share of `learning_rate` at which it counts as reached."""


def schedule_factors(scheduler: Any, num_steps: int) -> list[float]:
    """Shares of `learning_rate` over a run; none for a schedule that is not a function of the step."""
    functions = getattr(_unwrapped(scheduler), "lr_lambdas", None)
    if not functions:
        return []
    return [functions[0](step) for step in range(0, num_steps, -(-num_steps // MAX_POINTS))]


def _unwrapped(scheduler: Any) -> Any:
    return _unwrapped(scheduler.scheduler) if hasattr(scheduler, "scheduler") else scheduler


class RunLengthCallback(TrainerCallback):
    """Warns once, on the main process, when a run begins."""

    def on_train_begin(self, args, state, control, lr_scheduler=None, **kwargs):
        length = f"max_steps={args.max_steps}"
        if args.max_steps <= 0:
            length = f"num_train_epochs={args.num_train_epochs:g} ({state.max_steps} optimizer steps)"
        factors = schedule_factors(lr_scheduler, state.max_steps)
        messages = [
            *_odd_warmup(args, state.max_steps, length, factors),
            *_odd_end(args, state.max_steps, length),
            *_odd_intervals(args, state, length),
        ]
        rates = getattr(_unwrapped(lr_scheduler), "base_lrs", [])
        if state.global_step > 0 and rates and args.learning_rate not in rates:
            messages.append(
                f"learning_rate={args.learning_rate:g} has no effect: the checkpoint goes on with its own, "
                f"{max(rates):g}. Start from its weights instead (model_name_or_path) to change the rate."
            )
        for message in messages:
            logger.warning(message)


def _odd_warmup(args: Any, num_steps: int, length: str, factors: list[float]) -> Iterator[str]:
    num_warmup = sum(1 for _ in takewhile(lambda factor: factor < ARRIVED, factors))
    if num_warmup <= len(factors) / 2:
        return
    name, field = "warmup_steps", f"warmup_steps={args.warmup_steps:g}"
    if args.warmup_steps == args.warmup_rollouts * args.optimizer_steps_per_rollout:
        steps = args.get_warmup_steps(num_steps)
        name, field = "warmup_rollouts", f"warmup_rollouts={args.warmup_rollouts} ({steps} optimizer steps)"
    highest = args.learning_rate * max(factors)
    reached = "is never reached" if num_warmup == len(factors) else "is reached in the second half only"
    yield (
        f"{field} is too long for {length}: learning_rate={args.learning_rate:g} {reached} (the highest rate is "
        f"{highest:.2g}). Lower {name}, or train longer."
    )


def _odd_end(args: Any, num_steps: int, length: str) -> Iterator[str]:
    steps = args.optimizer_steps_per_rollout
    rollouts, rest = divmod(num_steps, steps)
    if rest:
        fitting = " or ".join(str(number * steps) for number in (rollouts, rollouts + 1) if number)
        yield (
            f"{length} ends in the middle of a rollout: the last one is trained on in {rest} of its {steps} optimizer "
            f"steps, and its other completions were generated for nothing. Set max_steps to {fitting}."
        )


def _odd_intervals(args: Any, state: Any, length: str) -> Iterator[str]:
    intervals = (
        ("logging_steps", args.logging_strategy, state.logging_steps, "nothing is logged, and no alarm can be raised"),
        ("eval_steps", args.eval_strategy, state.eval_steps, "the model is never evaluated"),
    )
    for name, strategy, interval, effect in intervals:
        if strategy == "steps" and interval > state.max_steps:
            yield f"{name}={interval} is more than {length}: {effect}. Lower {name}, or train longer."
