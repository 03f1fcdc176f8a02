"""What reward functions return that training could not use: refused by name, on all processes together."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.trainer.utils import is_async_callable

from ..run.early_end import EndOfRun


logger = get_logger(__name__)

LARGEST = 1e15
"""Largest size of a reward, weighted or not. Deviations are squared and summed in float32, which ends at 3.4e38."""

LEAST_SPREAD = 1e-4
"""What TRL adds to a group's standard deviation: smaller differences hardly count."""

SHOWN_CHARS = 60
"""Characters of a prompt or a completion in a message."""


class RewardValueError(EndOfRun, ValueError):
    """A reward function returned what training cannot use."""

    is_failure = True


@dataclass
class ReturnedValues:
    """
    What the reward functions returned for this process's rows, before TRL makes float32 of it.

    Values that training cannot use become infinite, so that every process finds them among the gathered rewards, and
    are remembered as they were.

    Attributes:
        first_row (`int`): number of this process's first row among those of all processes.
        num_rows (`int`): rows of this process, B.
        num_generations (`int`): completions per prompt.
        unusable (`dict[tuple[int, int], str]`): what was returned, by row (of all processes) and function.
        with_nan (`set[int]`): functions that returned NaN.
    """

    first_row: int
    num_rows: int
    num_generations: int
    unusable: dict[tuple[int, int], str] = field(default_factory=dict)
    with_nan: set[int] = field(default_factory=set)

    @contextlib.contextmanager
    def watch(self, trainer: GRPOTrainer) -> Iterator[None]:
        """Inside, the trainer's reward functions are watched. Reward models are not: their values are tensors."""
        functions = trainer.reward_funcs
        trainer.reward_funcs = [self._watched(function, index) for index, function in enumerate(functions)]
        try:
            yield
        finally:
            trainer.reward_funcs = functions

    def _watched(self, function: Any, index: int) -> Any:
        if isinstance(function, torch.nn.Module):
            return function

        async def watch_later(**kwargs):
            return self.take(await function(**kwargs), index)

        def watch(**kwargs):
            return self.take(function(**kwargs), index)

        return watch_later if is_async_callable(function) else watch

    def take(self, output: Any, index: int) -> list[float | None]:
        """
        What the function of number `index` returned, as numbers that TRL can use, and None for what is not scored.

        A wrong number of values stays one: TRL says so.
        """
        try:
            values = list(output)
        except TypeError:
            self.unusable[self.first_row, index] = f"{_shorten(output)} instead of a list of values"
            return [math.inf] * self.num_rows
        return [self._number(value, row, index) for row, value in enumerate(values, start=self.first_row)]

    def _number(self, value: Any, row: int, index: int) -> float | None:
        if value is None:
            return None
        try:
            number = math.inf if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number = math.inf
        if math.isnan(number):
            self.with_nan.add(index)
        elif abs(number) > LARGEST:
            self.unusable[row, index] = _shorten(value)
            return math.inf
        return number


def check_rewards(
    rewards_per_func: torch.Tensor,
    weights: torch.Tensor | None,
    returned: ReturnedValues,
    names: list[str],
    rows: list[tuple[Any, Any]],
) -> None:
    """Refuses rewards that make the advantages of a group zero or NaN. All processes must call it together."""
    rewards = rewards_per_func.detach().cpu()
    weight_of = torch.ones(len(names)) if weights is None else weights.detach().cpu()
    is_unusable = (rewards.abs() > LARGEST) | ((rewards * weight_of).abs() > LARGEST)
    if is_unusable.any():
        row, index = is_unusable.nonzero()[0].tolist()
        rule = (
            f"A reward must be None or one number, of at most {LARGEST:g} in size and with its weight, or the "
            "advantages of its whole group are zero or NaN. Return None for a completion that cannot be scored, and "
            "scale or clip what is too large."
        )
    elif weights is not None and (lost := find_lost(rewards, weight_of, returned.num_generations)) is not None:
        row, index = lost
        rule = (
            "Beside a number of this size the differences between the other rewards of this prompt's completions "
            "vanish: rewards are added in float32, which holds 7 digits. Scale it to the size of the others, or lower "
            "its weight (reward_weights)."
        )
    else:
        return
    local = row - returned.first_row
    mine = None
    if 0 <= local < len(rows):
        mine = returned.unusable.get((row, index), f"{rewards[row, index].item():g}"), *map(_shorten, rows[local])
    text, prompt, completion = next(found for found in gather_object([mine]) if found is not None)
    weight = weight_of[index].item()
    raise RewardValueError(
        f"The reward function {names[index]!r} returned {text}{f' (weight {weight:g})' if weight != 1 else ''} for "
        f"row {row} of {len(rewards)} completions, prompt {prompt}, completion {completion}. {rule}"
    )


def find_lost(rewards: torch.Tensor, weights: torch.Tensor, num_generations: int) -> tuple[int, int] | None:
    """Finds a group whose rewards differ, but hardly any more once they are added in float32."""
    weighted = (rewards.nan_to_num() * weights).view(-1, num_generations, rewards.size(1))
    added = weighted.sum(dim=2).double()
    # Each function's differences on their own, in which a large constant plays no part.
    exact = (weighted.double() - weighted[:, :1].double()).sum(dim=2)
    error = (added - added[:, :1] - exact).abs().amax(dim=1)
    spread = exact.amax(dim=1) - exact.amin(dim=1)
    is_lost = (spread > LEAST_SPREAD) & (error > spread / 2)
    if not is_lost.any():
        return None
    group = int(is_lost.nonzero()[0])
    member, index = divmod(int(weighted[group].abs().argmax()), rewards.size(1))
    return group * num_generations + member, index


@contextlib.contextmanager
def watched_rewards(
    trainer: GRPOTrainer, prompts: list, completions: list, warned_of_nan: set[int]
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Inside, the trainer's reward functions are watched."""
    is_training = trainer.model is not None and trainer.model.training
    num_generations = trainer.num_generations if is_training else trainer.num_generations_eval
    assert num_generations is not None  # set by the configuration
    returned = ReturnedValues(trainer.accelerator.process_index * len(prompts), len(prompts), num_generations)
    names = trainer.reward_func_names

    def check(rewards: torch.Tensor) -> None:
        is_sum = trainer.multi_objective_aggregation == "sum_then_normalize"
        rows = list(zip(prompts, completions, strict=True))
        check_rewards(rewards, trainer.reward_weights if is_sum else None, returned, names, rows)
        models = {i for i, function in enumerate(trainer.reward_funcs) if isinstance(function, torch.nn.Module)}
        with_nan = returned.with_nan | {i for i in models if rewards[:, i].isnan().any()}
        for index in with_nan - warned_of_nan:
            logger.warning(
                f"The reward function {names[index]!r} returned NaN. It counts as None: a completion that cannot be "
                "scored. Return None to say so without this warning, and otherwise look for a division by zero or an "
                "overflow.",
                main_process_only=False,
            )
        warned_of_nan.update(with_nan)

    with returned.watch(trainer):
        yield check


def _shorten(value: Any) -> str:
    is_conversation = isinstance(value, list) and value and isinstance(value[-1], dict)
    text = repr(value[-1].get("content", "") if is_conversation else value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
