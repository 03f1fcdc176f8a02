"""Will the rewards work on this data set? Every reference answer, written as a completion, must score."""

import asyncio
import inspect
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from tqdm.auto import tqdm

from .prompts import Messages, prompt_text
from .records import batches, problem_id
from .templates import undo_template
from .tokens import length_statistics, prompt_ids


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

RewardFunc = Callable[..., Any]

_BATCH_SIZE = 256


class CheckFailedError(ValueError):
    """Too few reference answers of a data set score. `report` holds the [`CheckReport`]."""

    def __init__(self, message: str, report: "CheckReport"):
        super().__init__(message)
        self.report = report


@dataclass
class CheckReport:
    """What a check found, over the rows looked at."""

    num_rows: int  # of the data set
    num_checked: int
    frac_right: dict[str, float] = field(default_factory=dict)  # of the reference answers, by reward function
    failures: list[str] = field(default_factory=list)  # row, function, what was scored, and why it did not score
    num_duplicates: int = 0  # rows whose problem stands in an earlier row
    prompt_tokens: dict[str, int] = field(default_factory=dict)  # see `length_statistics`

    def summary(self, max_failures: int = 20) -> str:
        """The report as lines of text, with the first failures."""
        lines = [f"rows checked: {self.num_checked} of {self.num_rows}"]
        lines += [f"reference answers that score, {name}: {frac:.2%}" for name, frac in self.frac_right.items()]
        lines += [f"duplicates: {self.num_duplicates}"]
        if self.prompt_tokens:
            lengths = ", ".join(f"{name} {number}" for name, number in self.prompt_tokens.items())
            lines.append(f"prompt tokens: {lengths}")
        lines += [f"  {failure}" for failure in self.failures[:max_failures]]
        if len(self.failures) > max_failures:
            lines.append(f"  ... and {len(self.failures) - max_failures} more")
        return "\n".join(lines)


def check_dataset(
    dataset: Dataset,
    reward_funcs: RewardFunc | Sequence[RewardFunc],
    *,
    sample: int | None = None,
    seed: int = 42,
    min_frac_right: float = 0.99,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> CheckReport:
    """
    Scores every reference answer as a completion in the form that its prompt asks for, and refuses the data set if too
    few are right: so it also finds a prompt that asks for a form which the reward does not read.

    `dataset` has columns `prompt` and `solution`; all others go to `reward_funcs`, which judge correctness with TRL's
    signature (above 0 is right) and leave out length penalties. `sample` rows are drawn with `seed`; for each function
    `min_frac_right` of their answers must score. A `tokenizer` reports prompt lengths.

    A TypeError is raised for splits or a stream in place of a `Dataset`, a ValueError if a column is missing or there
    are no rows, a [`CheckFailedError`] with rows and reasons if too few answers score.
    """
    reward_funcs = [reward_funcs] if callable(reward_funcs) else list(reward_funcs)
    _check_columns(dataset)
    rows: Sequence[int] = range(len(dataset))
    if sample is not None and sample < len(dataset):
        rows = sorted(random.Random(seed).sample(rows, sample))
    report = CheckReport(num_rows=len(dataset), num_checked=len(rows))
    num_right = [0] * len(reward_funcs)
    problems: set[str] = set()
    lengths: list[int] = []
    progress = tqdm(batches(rows, _BATCH_SIZE), desc="Checking answers", disable=len(rows) <= _BATCH_SIZE)
    for indices in progress:
        batch = dataset[indices]
        texts = map(prompt_text, batch["prompt"])
        problems.update(problem_id(undo_template(text) or text) for text in texts)
        if tokenizer is not None:
            lengths += map(len, prompt_ids(batch["prompt"], tokenizer))
        for number, reward_func in enumerate(reward_funcs):
            failures = _failures(batch, indices, reward_func)
            num_right[number] += len(indices) - len(failures)
            report.failures += failures
    for reward_func, number in zip(reward_funcs, num_right, strict=True):
        name = reward_name(reward_func)
        report.frac_right[name] = min(number / len(rows), report.frac_right.get(name, 1.0))  # two of one name
    report.num_duplicates = len(rows) - len(problems)
    report.prompt_tokens = length_statistics(lengths)
    wrong = [f"{name} ({frac:.2%})" for name, frac in report.frac_right.items() if frac < min_frac_right]
    if wrong:
        raise CheckFailedError(
            f"Only part of the reference answers, as completions, get a reward above 0 from {', '.join(wrong)}; "
            f"{min_frac_right:.0%} must. Choose the prompt template and the reward function (answer rule) to fit each "
            "other and the answers, or clean the answers.\n" + report.summary(),
            report,
        )
    if report.num_duplicates:
        logger.warning(
            f"{report.num_duplicates} of {report.num_checked} rows repeat the problem of another row: a prompt may "
            "then be twice in one rollout. Run `dapo-trl prepare-data` on the data set to keep each problem once."
        )
    return report


def _check_columns(dataset: Dataset) -> None:
    if not isinstance(dataset, Dataset):
        splits = f" with the splits {list(dataset)}" if isinstance(dataset, dict) else ""
        raise TypeError(
            f"The data set is a {type(dataset).__name__}{splits}, but it must be a Dataset: one of the splits, loaded "
            "without streaming, or built with Dataset.from_list."
        )
    if missing := {"prompt", "solution"} - set(dataset.column_names):
        raise ValueError(
            f"The data set has no column {', '.join(map(repr, sorted(missing)))}, only {dataset.column_names}. Rename "
            "the one that holds it (dataset.rename_column), or read the data with load_prompts, which finds it."
        )
    if len(dataset) == 0:
        raise ValueError("The data set has no rows, so nothing can be checked. Load another split or file.")


def _failures(batch: dict, indices: Sequence[int], reward_func: RewardFunc) -> list[str]:
    golds = [str(gold) for gold in batch["solution"]]
    completions = [gold_completion(prompt, gold) for prompt, gold in zip(batch["prompt"], golds, strict=True)]
    begin, end = getattr(reward_func, "thinking_tags", None) or ("<think>", "")
    if not begin:  # the chat template writes it, so every completion begins with thinking
        completions = [f"{end}\n{completion}" for completion in completions]
    columns = {name: values for name, values in batch.items() if name != "prompt"}
    rewards = score(reward_func, batch["prompt"], completions, columns)
    failures = []
    for row, completion, gold, reward in zip(indices, completions, golds, rewards, strict=True):
        if reward is None or reward <= 0:
            reason = "no reward, the answer cannot be read" if reward is None else f"reward {reward:g}, judged wrong"
            failures.append(f"row {row}, {reward_name(reward_func)}, answer {gold!r} as {completion!r}: {reason}")
    return failures


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
    Rewards of completions by a plain or `async` function with TRL's signature; `None` where it gives None or NaN.
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


def gold_completion(prompt: str | Messages, gold: str) -> str:
    r"""
    A reference answer in the form that the prompt asks for.

    >>> gold_completion("What is 1 + 1? Put your final answer within \\boxed{}.", "2")
    '\\boxed{2}'
    """
    text = prompt_text(prompt)
    boxed = f"\\boxed{{{gold}}}"
    if "Answer: \\boxed" in text:
        return f"Answer: {boxed}"
    return boxed if "\\boxed" in text else f"Answer: {gold}"
