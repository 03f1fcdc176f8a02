"""Call reward functions outside a trainer, with the arguments that a trainer would give."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .prompts import Messages, prompt_text


RewardFunc = Callable[..., Any]


def reward_name(reward_func: RewardFunc) -> str:
    """The name under which a trainer logs a reward function, with its answer rule and version if it has one."""
    name = getattr(reward_func, "__name__", type(reward_func).__name__)
    rule = getattr(reward_func, "answer_rule", None)
    return f"{name} ({rule})" if isinstance(rule, str) else name


def score(
    reward_func: RewardFunc,
    prompts: Sequence[str | Messages],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> list[float | None]:
    """
    Rewards of completions, in the calling convention of TRL; NaN, too, is None.

    Args:
        reward_func (`Callable`): reward function, plain or `async`.
        prompts (sequence of `str` or of messages): one per completion; those of messages are handed on as messages.
        completions (sequence of `str`): texts to score.
        columns (`Mapping`): other columns of the rows, such as `solution`.

    Raises:
        ValueError: if the function returns another number of rewards.
    """
    answers = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(prompts, completions, strict=True)
    ]
    rewards = reward_func(
        prompts=list(prompts),
        completions=answers,
        completion_ids=[[] for _ in answers],
        **{name: list(values) for name, values in columns.items()},
        trainer_state=None,
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
    )
    if inspect.iscoroutine(rewards):
        rewards = asyncio.run(rewards)
    if len(rewards) != len(answers):
        raise ValueError(
            f"The reward function {reward_name(reward_func)!r} returned {len(rewards)} rewards for {len(answers)} "
            "completions. It must return one reward, or None, per completion."
        )
    return [None if reward is None or reward != reward else float(reward) for reward in rewards]


def gold_completion(prompt: str | Messages, gold: str, completion_template: str | None = None) -> str:
    r"""
    A reference answer in the form that the prompt asks for.

    >>> gold_completion("What is 1 + 1? Put your final answer within \\boxed{}.", "2")
    '\\boxed{2}'
    """
    if completion_template is not None:
        return completion_template.replace("{solution}", gold)
    text = prompt_text(prompt)
    boxed = f"\\boxed{{{gold}}}"
    if "Answer: \\boxed" in text:
        return f"Answer: {boxed}"
    return boxed if "\\boxed" in text else f"Answer: {gold}"
