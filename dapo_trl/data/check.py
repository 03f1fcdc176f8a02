"""Will the rewards work on this data set? Every gold answer, written as a completion, must score."""

import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets import Dataset, DatasetDict, IterableDatasetDict
from tqdm.auto import tqdm

from .check_report import CheckFailedError, CheckReport, Failure
from .deduplicate import are_same_golds
from .prompts import prompt_text
from .scoring import RewardFunc, gold_completion, reward_name, score
from .templates import undo_template
from .text import answer_type, canonical_gold, text_key
from .tokens import length_statistics, num_prompt_tokens


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

_BATCH_SIZE = 256


def check_dataset(
    dataset: Dataset,
    reward_funcs: RewardFunc | Sequence[RewardFunc],
    *,
    sample: int | None = None,
    seed: int = 42,
    min_frac_right: float = 0.99,
    completion_template: str | None = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> CheckReport:
    r"""
    Scores every gold answer as a completion, and refuses the data set if too few are right.

    The completion is what the prompt asks for: `Answer: \boxed{gold}`, `\boxed{gold}` or `Answer: gold`. So the check
    also fails if the prompt asks for a form that the reward function does not read.

    Args:
        dataset (`datasets.Dataset`):
            Columns `prompt` and `solution`; all other columns go to the reward functions.
        reward_funcs (`Callable` or list of `Callable`):
            Functions that judge correctness, with TRL's signature: above 0 is right. Leave out those that do not, such
            as length penalties.
        sample (`int`, *optional*):
            Look at so many rows, drawn with `seed`, instead of all.
        seed (`int`, *optional*, defaults to 42):
            Seed of the sample.
        min_frac_right (`float`, *optional*, defaults to 0.99):
            Share of the gold answers that must score, for each function.
        completion_template (`str`, *optional*):
            Text with `{solution}` to write the gold answers in, if the prompts ask for another form.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Reports the lengths of the prompts in tokens.

    Returns:
        [`CheckReport`]

    Raises:
        TypeError: if it is no `Dataset`, but a dictionary of splits or a stream.
        ValueError: if a column is missing, there are no rows or no reward functions.
        CheckFailedError: if fewer than `min_frac_right` of the gold answers score; it lists rows and reasons.
    """
    reward_funcs = [reward_funcs] if callable(reward_funcs) else list(reward_funcs)
    _check_arguments(dataset, reward_funcs, completion_template)
    rows = range(len(dataset))
    if sample is not None and sample < len(dataset):
        rows = sorted(random.Random(seed).sample(rows, sample))
    report = CheckReport(num_rows=len(dataset), num_checked=len(rows))
    num_wrong = [0] * len(reward_funcs)
    golds: dict[bytes, str] = {}
    pairs: list[tuple[str, str]] = []
    lengths: list[int] = []
    for start in tqdm(range(0, len(rows), _BATCH_SIZE), desc="Checking golds", disable=len(rows) <= _BATCH_SIZE):
        indices = rows[start : start + _BATCH_SIZE]
        batch = dataset[list(indices)]
        pairs += _count_kinds(batch, golds, report)
        if tokenizer is not None:
            lengths += [num_prompt_tokens(prompt, tokenizer) for prompt in batch["prompt"]]
        for number, reward_func in enumerate(reward_funcs):
            failures = _failures(batch, indices, reward_func, completion_template)
            num_wrong[number] += len(failures)
            report.failures += failures
    for reward_func, number in zip(reward_funcs, num_wrong, strict=True):
        name, frac = reward_name(reward_func), (len(rows) - number) / len(rows)
        report.frac_right[name] = min(frac, report.frac_right.get(name, 1.0))  # two may have the same name
    report.num_conflicting = are_same_golds(pairs).count(False)
    report.prompt_tokens = length_statistics(lengths)
    _refuse_if_wrong(report, min_frac_right)
    if report.num_duplicates:
        logger.warning(
            f"{report.num_duplicates} of {report.num_checked} rows repeat the problem of another row, "
            f"{report.num_conflicting} of them with another gold: the same prompt may then be twice in one rollout. "
            "Run `dapo-trl prepare-data` on the data set to keep each problem once."
        )
    return report


def _check_arguments(dataset: Dataset, reward_funcs: list[RewardFunc], completion_template: str | None) -> None:
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"The data set is a {type(dataset).__name__} with the splits {list(dataset)}. Pass one of them, such as "
            f"dataset[{next(iter(dataset), 'train')!r}]."
        )
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"The data set is a {type(dataset).__name__}, but it must be a Dataset. Load it without streaming, or "
            "build one with Dataset.from_list."
        )
    for column in ("prompt", "solution"):
        if column not in dataset.column_names:
            raise ValueError(
                f"The data set has no column {column!r}, only {dataset.column_names}. Rename "
                "the one that holds it (dataset.rename_column), or read the data with load_prompts, which finds it."
            )
    if len(dataset) == 0:
        raise ValueError("The data set has no rows, so nothing can be checked. Load another split or file.")
    if not reward_funcs:
        raise ValueError("reward_funcs is empty. Give the reward function that decides what is correct.")
    if completion_template is not None and "{solution}" not in completion_template:
        raise ValueError(f"completion_template={completion_template!r} must have `{{solution}}` where the gold goes.")


def _count_kinds(batch: dict, golds: dict[bytes, str], report: CheckReport) -> list[tuple[str, str]]:
    """Returns golds of the same problem that are written in different ways: the first one, and another."""
    pairs = []
    for prompt, gold in zip(batch["prompt"], batch["solution"], strict=True):
        report.answer_types[answer_type(str(gold))] += 1
        text = prompt_text(prompt)
        problem = undo_template(text)
        key = text_key(text if problem is None else problem)
        first = golds.setdefault(key, str(gold))
        if canonical_gold(first) != canonical_gold(str(gold)):
            pairs.append((first, str(gold)))
    report.num_duplicates = report.answer_types.total() - len(golds)
    return pairs


def _failures(
    batch: dict, indices: Sequence[int], reward_func: RewardFunc, completion_template: str | None
) -> list[Failure]:
    completions = [
        gold_completion(prompt, str(gold), completion_template)
        for prompt, gold in zip(batch["prompt"], batch["solution"], strict=True)
    ]
    begin, end = getattr(reward_func, "thinking_tags", None) or ("<think>", "")
    if not begin:  # the chat template writes it, so every completion begins with thinking
        completions = [f"{end}\n{completion}" for completion in completions]
    columns = {name: values for name, values in batch.items() if name != "prompt"}
    rewards = score(reward_func, batch["prompt"], completions, columns)
    return [
        Failure(row, reward_name(reward_func), completion, str(gold), _reason(reward))
        for row, completion, gold, reward in zip(indices, completions, batch["solution"], rewards, strict=True)
        if reward is None or reward <= 0
    ]


def _reason(reward: float | None) -> str:
    return "no reward, the gold cannot be read" if reward is None else f"reward {reward:g}, judged wrong"


def _refuse_if_wrong(report: CheckReport, min_frac_right: float) -> None:
    wrong = [f"{name} ({frac:.2%})" for name, frac in report.frac_right.items() if frac < min_frac_right]
    if wrong:
        raise CheckFailedError(
            f"Only part of the gold answers, written as completions, get a reward above 0 from {', '.join(wrong)}; "
            f"{min_frac_right:.0%} must. Choose the prompt template and the reward function (answer rule) to fit each "
            "other and the golds, or clean the golds; custom answer forms need completion_template.\n"
            + report.summary(),
            report,
        )
