"""Which completions of a run are worth reading."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from ..rewards.functions import completion_text
from ..rewards.spelling import neutral
from .runs import Run


logger = logging.getLogger(__name__)

KINDS = ("Best", "Worst", "Longest", "Truncated", "Verifier and text disagree")
"""In the order of the page."""

_OTHER_COLUMNS = ("step", "prompt", "completion", "advantage", "num_tokens", "is_truncated")
_SHOWN_CHARS = 1200


@dataclass(frozen=True)
class Sample:
    """
    A completion to read.

    Attributes:
        kind (`str`): why it is shown.
        note (`str`): what is meant by that.
        step (`int`): optimizer steps before it was generated, up to one rollout less.
        prompt, completion (`str`): texts; a long one without its middle.
        rewards (`dict[str, float]`): by reward function.
        facts (`dict[str, str]`): gold, answer found, verdict, length, what became of its group: what is known.
    """

    kind: str
    note: str
    step: int
    prompt: str
    completion: str
    rewards: dict[str, float]
    facts: dict[str, str]


def samples(run: Run) -> list[Sample]:
    """
    The best, the worst, the longest, a truncated completion, and one on which the verifier and the text disagree.

    Args:
        run ([`Run`]): a run with `log_completions`.

    Returns:
        `list[Sample]`: of the last rollout whose table can be read. Empty if there is none.
    """
    table = last_table(run.path / "completions")
    if table is None or not {"prompt", "completion", "step"} <= set(table.columns):
        return []
    rewards = reward_columns(table)
    if not rewards:
        return []
    shown = [_sample(kind, note, row, rewards) for kind, note, row in _choose(table, rewards, run.settings.values)]
    return sorted(shown, key=lambda sample: KINDS.index(sample.kind))


def last_table(folder: Path) -> pd.DataFrame | None:
    """The last table of completions of a training rollout; one that is being written just now is passed over."""
    for path in sorted(folder.glob("completions_[0-9]*.parquet"), key=_step_of, reverse=True):
        try:
            table = pd.read_parquet(path)
        except (OSError, pyarrow.ArrowInvalid) as error:
            logger.warning("%s cannot be read and is passed over: %s", path, error)
            continue
        if "dynamic_sampling" in table:
            table = table[table["dynamic_sampling"] != "evaluation"]
        if len(table):
            return table.reset_index(drop=True)
    return None


def _step_of(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def reward_columns(table: pd.DataFrame) -> list[str]:
    """Columns of reward functions: they stand right after the completion, and are floating-point numbers."""
    names = list(table.columns)
    columns = []
    for name in names[names.index("completion") + 1 :]:
        if name in _OTHER_COLUMNS or not pd.api.types.is_float_dtype(table[name]):
            break
        columns.append(name)
    return columns


def _choose(table: pd.DataFrame, rewards: list[str], settings: dict) -> Iterator[tuple[str, str, pd.Series]]:
    """Each row at most once."""
    weights = settings.get("reward_weights") or []
    weights = weights if len(weights) == len(rewards) else [1.0] * len(rewards)
    table = table.assign(_total=(table[rewards] * weights).sum(axis=1), _length=_lengths(table))
    named = settings.get("dynamic_sampling_metric") or []
    deciding = [name for name in ([named] if isinstance(named, str) else named) if name in rewards]
    table = table.assign(_deciding=table[deciding or rewards[:1]].bfill(axis=1).iloc[:, 0])
    threshold = settings.get("correct_threshold") or 0.0
    taken: set[int] = set()
    for kind, note, candidates in _candidates(table, threshold):
        left = candidates[~candidates.index.isin(taken)]
        if len(left):
            taken.add(left.index[0])
            yield kind, note, left.iloc[0]


def _candidates(table: pd.DataFrame, threshold: float) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Kinds of samples, the most telling row of each first. Rare ones choose before common ones."""
    is_scored = table["_deciding"].notna()
    if {"answer", "gold"} <= set(table.columns):
        disagrees = table[is_scored & (_equals_gold(table) != (table["_deciding"] > threshold))]
        note = "the answer reads like the gold but counts as wrong, or reads otherwise and counts as right"
        yield "Verifier and text disagree", note, disagrees
    if "is_truncated" in table:
        yield "Truncated", "cut off at max_completion_length", table[table["is_truncated"].eq(True)]
    unit = "tokens" if "num_tokens" in table else "characters"
    yield "Longest", f"most {unit} of the rollout", table.sort_values("_length", ascending=False)
    scored = table[is_scored]
    order = ["_total", "advantage"] if "advantage" in table else ["_total"]
    note = "highest reward; among equals, the one whose group did worst"
    yield "Best", note, scored.sort_values(order, ascending=False)
    note = "lowest reward; among equals, the one whose group did best"
    yield "Worst", note, scored.sort_values(order)


def _lengths(table: pd.DataFrame) -> pd.Series:
    if "num_tokens" in table:
        return table["num_tokens"]
    return table["completion"].map(lambda completion: len(plain_text(completion)))


def _equals_gold(table: pd.DataFrame) -> pd.Series:
    pairs = zip(table["answer"], table["gold"], strict=True)
    same = [bool(answer) and neutral(str(answer)) == neutral(str(gold)) for answer, gold in pairs]
    return pd.Series(same, index=table.index)


def _sample(kind: str, note: str, row: pd.Series, rewards: list[str]) -> Sample:
    facts = {
        "gold": _text(row, "gold"),
        "answer found": _text(row, "answer"),
        "verdict": _text(row, "verdict").replace("_", " "),
        "length": f"{int(row['num_tokens']):,} tokens" if "num_tokens" in row else "",
        "group": _text(row, "dynamic_sampling").replace("_", " "),
    }
    return Sample(
        kind=kind,
        note=note,
        step=int(row["step"]),
        prompt=shorten(plain_text(row["prompt"])),
        completion=shorten(plain_text(row["completion"])),
        rewards={name: float(row[name]) for name in rewards},
        facts={name: shorten(value) for name, value in facts.items() if value},
    )


def _text(row: pd.Series, column: str) -> str:
    value = row.get(column)
    return "" if value is None or value is pd.NA or value != value else str(value)


def plain_text(value: Any) -> str:
    """The text of a prompt or completion; of a conversation, each turn after its role if there are several."""
    if isinstance(value, str) or value is None:
        return value or ""
    turns = list(value)
    if len(turns) == 1:
        return completion_text(turns)
    return "\n\n".join(f"{turn.get('role')}: {completion_text([turn])}" for turn in turns)


def shorten(text: str) -> str:
    """A long text without its middle: the end, where the answer is, stays."""
    num_left_out = len(text) - 2 * _SHOWN_CHARS
    if num_left_out <= 100:
        return text
    return f"{text[:_SHOWN_CHARS]}\n\n[... {num_left_out:,} characters left out ...]\n\n{text[-_SHOWN_CHARS:]}"
