"""Training and evaluation data: what would fail only when its row is drawn, or when the first evaluation begins."""

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from accelerate.logging import get_logger
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..config import DAPOConfig
from .model import check_token_id, max_positions, num_embeddings, num_tokens


logger = get_logger(__name__)


# Before anything is loaded


def check_datasets(args: DAPOConfig, train_dataset: Any, eval_dataset: Any) -> dict[str, Any]:
    """Refuses data, as given to the trainer, that no rollout or evaluation can be drawn from."""
    if isinstance(train_dataset, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"train_dataset is a {type(train_dataset).__name__} with the splits {list(train_dataset)}. Pass one of "
            "them, such as dataset['train']."
        )
    if not isinstance(train_dataset, Dataset | IterableDataset | None):
        return {}  # refused by the parent
    is_evaluated = args.eval_strategy != "no"
    if is_evaluated and isinstance(eval_dataset, dict) and not eval_dataset:
        raise ValueError(
            f"eval_strategy={args.eval_strategy.value!r}, but eval_dataset is empty. Give it a data set, or set "
            "eval_strategy to 'no'."
        )
    named = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
    if isinstance(eval_dataset, dict):
        sets = {f"eval_dataset[{name!r}]": dataset for name, dataset in eval_dataset.items()}
        named = {"train_dataset": train_dataset, **sets}
    named = {name: dataset for name, dataset in named.items() if dataset is not None}
    for name, dataset in named.items():
        row = _first_row(name, dataset)
        if row is None and name != "train_dataset" and is_evaluated:
            raise ValueError(
                f"{name} has no rows, so that there is nothing to evaluate. Give it prompts, or set eval_strategy to "
                "'no'."
            )
        if row is not None and "prompt" not in row:
            raise ValueError(
                f"{name} has no column `prompt`, but the columns {sorted(row)}. Rename the one with the prompts "
                "(dataset.rename_column), or read the data with dapo_trl.data.load_prompts, which finds it."
            )
    return named


def check_dataset_size(args: DAPOConfig, train_dataset: Any) -> None:
    """Refuses a data set that is smaller than one rollout, whose prompts must be different ones."""
    if isinstance(train_dataset, Sized) and len(train_dataset) < args.prompts_per_rollout:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, but one rollout needs {args.prompts_per_rollout} "
            f"different ones (generation_batch_size={args.generation_batch_size} completions / num_generations="
            f"{args.num_generations}). Use more prompts, or lower updates_per_rollout, per_device_train_batch_size or "
            "gradient_accumulation_steps."
        )


def columns_of(dataset: Any) -> set[str]:
    """Names of the columns."""
    is_stream = isinstance(dataset, IterableDataset)
    return set((dataset.column_names if is_stream else None) or _first_row("", dataset) or {})


def _first_row(name: str, dataset: Any) -> Mapping | None:
    if isinstance(dataset, IterableDataset):
        return next(iter(dataset), None)
    try:
        row = dataset[0] if len(dataset) else None
    except (TypeError, KeyError, AttributeError):
        row = dataset
    if row is None or (isinstance(row, Mapping) and row is not dataset):
        return row
    raise TypeError(
        f"{name} is a {type(dataset).__name__}, but it must be a Dataset or an IterableDataset, or for evaluation a "
        "dictionary of them by name. Build one with Dataset.from_list or Dataset.from_pandas."
    )


# When the trainer has been built


def check_prompts(
    datasets: dict[str, Any],
    processing_class: Any,
    model: nn.Module,
    args: DAPOConfig,
    is_generated_elsewhere: bool,
) -> None:
    """
    Reads every prompt, and refuses those that could not be encoded, or that are too long for the model.

    Of streams, and of data that is transformed when it is read, only the first row is read. Prompts are encoded only
    where their size in bytes leaves doubt.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    for name, dataset in datasets.items():
        prompts = list(_prompts(dataset))
        check_prompt_types(name, prompts)
        if not is_generated_elsewhere:
            _check_encodable(name, prompts, processing_class)
        _warn_of_answers(name, prompts)
        is_text = bool(prompts) and isinstance(prompts[0], str)
        if tokenizer is processing_class and (is_text or tokenizer.chat_template is not None):
            _check_tokens(name, prompts, tokenizer, model, args)


def _prompts(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, Dataset) and dataset.format["type"] is None:
        for batch in dataset.select_columns("prompt").iter(1000):
            yield from batch["prompt"]
    elif isinstance(dataset, Dataset | IterableDataset):
        yield from (row["prompt"] for row in dataset.take(1))
    else:
        yield from (dataset[i]["prompt"] for i in range(len(dataset)))


def check_prompt_types(name: str, prompts: list) -> None:
    """Refuses what is neither text nor messages, and both in one data set."""
    for i, prompt in enumerate(prompts):
        problem = None if isinstance(prompt, str) else _problem_of_messages(prompt)
        if problem is None and isinstance(prompt, str) != isinstance(prompts[0], str):
            problem = "of another kind than the first one: texts and messages cannot be mixed"
        if problem:
            raise ValueError(
                f"{name}[{i}]['prompt'] is {problem}. A prompt is a text, or a list of messages with `role` and "
                "`content`. Correct the row, or leave it out (dataset.filter)."
            )


def _problem_of_messages(prompt: Any) -> str | None:
    if not isinstance(prompt, list):
        return f"{prompt!r:.60} ({type(prompt).__name__})"
    if not prompt:
        return "an empty list"
    for message in prompt:
        if not isinstance(message, Mapping):
            return f"a list of {type(message).__name__}, {prompt!r:.60}"
        missing = [key for key in ("role", "content") if message.get(key) is None]
        if missing and not (missing == ["content"] and message["role"] == "assistant"):
            return f"a list of messages, one of them without {' and '.join(missing)}: {dict(message)!r:.80}"
    return None


def _check_encodable(name: str, prompts: list, processing_class: Any) -> None:
    if prompts and not isinstance(prompts[0], str) and processing_class.chat_template is None:
        raise ValueError(
            f"{name} has prompts that are lists of messages, but processing_class has no chat_template to write them "
            "with. Use the tokenizer of a chat model, set tokenizer.chat_template, or make the prompts texts."
        )
    if "" in prompts and not processing_class(text="")["input_ids"]:
        raise ValueError(
            f"{name}[{prompts.index('')}]['prompt'] is empty, and the tokenizer adds no token of its own, so that "
            "there is nothing to continue. Leave out such rows (dataset.filter)."
        )


def _warn_of_answers(name: str, prompts: list) -> None:
    rows = [i for i, prompt in enumerate(prompts) if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"]
    if rows:
        logger.warning(
            f"{name}: {len(rows)} of {len(prompts)} prompts, the first in row {rows[0]}, end with an assistant's "
            "turn. A new one is begun after it, so that an answer that stands there is given away. Leave out the last "
            "message if it is the answer."
        )


def _check_tokens(
    name: str, prompts: list, tokenizer: PreTrainedTokenizerBase, model: nn.Module, args: DAPOConfig
) -> None:
    from ..data.tokens import prompt_ids  # a trainer is not to load the folder of data

    limit, is_hard = max_positions(model)
    template_kwargs, num_new = args.chat_template_kwargs or {}, args.max_completion_length or 0
    rows = list(range(len(prompts)))
    if num_tokens(tokenizer) <= num_embeddings(model):  # otherwise every prompt may have a token without embedding
        rows = [] if limit is None else _maybe_longer(prompts, limit - num_new, tokenizer, template_kwargs)
    if not rows:
        return
    ids = prompt_ids([prompts[row] for row in rows], tokenizer, template_kwargs)
    i = max(range(len(ids)), key=lambda i: max(ids[i], default=0))
    check_token_id(max(ids[i], default=0), f"{name}[{rows[i]}]['prompt']", tokenizer, model)
    i = max(range(len(ids)), key=lambda i: len(ids[i]))
    if limit is not None and len(ids[i]) + num_new > limit:
        message = (
            f"{name}[{rows[i]}]['prompt'] has {len(ids[i])} tokens, and with max_completion_length={num_new} that is "
            f"more than max_position_embeddings={limit} of the model, "
        )
        remedy = "Lower max_completion_length"
        remedy += f", or leave out prompts above {limit - num_new} tokens." if limit > num_new else "."
        if is_hard:
            raise ValueError(f"{message}which has no embedding for further positions. {remedy}")
        logger.warning(f"{message}the length it was made for. {remedy}")


def _maybe_longer(
    prompts: list, max_tokens: int, tokenizer: PreTrainedTokenizerBase, template_kwargs: dict[str, Any]
) -> list[int]:
    """Rows that may have more tokens: no more than they have bytes, and what is added to an empty prompt."""
    from ..data.tokens import prompt_ids

    first = prompts[0]
    empty = "" if isinstance(first, str) else [dict(message) | {"content": ""} for message in first]
    num_added = len(prompt_ids([empty], tokenizer, template_kwargs)[0])
    return [i for i, prompt in enumerate(prompts) if _num_bytes(prompt) + num_added > max_tokens]


def _num_bytes(prompt: Any) -> int:
    texts = [prompt] if isinstance(prompt, str) else [str(message.get("content")) for message in prompt]
    return sum(len(text.encode()) for text in texts)
