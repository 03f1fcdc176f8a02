"""Which completions of a run are worth reading."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow

from ..rewards.spelling import neutral
from .runs import Run


logger = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A completion to read, why it is shown, and what else the table says of it."""

    kind: str
    step: int
    prompt: str
    completion: str
    facts: dict[str, str]


def samples(run: Run) -> list[Sample]:
    """One completion of each kind, of the last table that can be read; rare kinds choose first, none comes twice."""
    table = last_table(run.path / "completions")
    if table is None or not {"prompt", "completion", "step"} <= set(table.columns):
        return []
    shown: dict[int, Sample] = {}
    for kind, candidates in _kinds(table, run.settings):
        left = candidates.drop(index=list(shown), errors="ignore")
        if len(left):
            shown[left.index[0]] = _sample(kind, left.iloc[0])
    return list(shown.values())


def last_table(folder: Path) -> pd.DataFrame | None:
    """The last table of a training rollout; one that is being written just now is passed over."""
    paths = {int(path.stem.rpartition("_")[2]): path for path in folder.glob("completions_[0-9]*.parquet")}
    for _, path in sorted(paths.items(), reverse=True):
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


def _kinds(table: pd.DataFrame, settings: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "Verifier and text disagree", disagreements(table, settings)
    if "is_truncated" in table:
        yield "Truncated", table[table["is_truncated"].eq(True)]
    lengths = table["num_tokens"] if "num_tokens" in table else table["completion"].map(plain_text).str.len()
    yield "Longest", table.loc[lengths.sort_values(ascending=False).index]
    if "advantage" in table:  # NaN for groups that were not trained on
        ranked = table.dropna(subset="advantage").sort_values("advantage", ascending=False)
        yield "Highest advantage", ranked
        yield "Lowest advantage", ranked[::-1]


def disagreements(table: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """Rows spelt like the reference answer but wrong by the filter rewards, or otherwise and right."""
    if not {"answer", "gold"} <= set(table.columns):
        return table.iloc[:0]
    named = settings.get("dynamic_sampling_metric") or []
    columns = [name for name in ([named] if isinstance(named, str) else named) if name in table]
    columns = columns or [table.columns[table.columns.tolist().index("completion") + 1]]
    reward = table[columns].bfill(axis="columns").iloc[:, 0]
    is_correct = reward > (settings.get("correct_threshold") or 0.0)
    pairs = zip(table["answer"], table["gold"], strict=True)
    reads_alike = [bool(answer) and neutral(str(answer)) == neutral(str(gold)) for answer, gold in pairs]
    return table[reward.notna() & (is_correct != reads_alike)]


def _sample(kind: str, row: pd.Series) -> Sample:
    facts = {
        str(name): f"{value:.3g}" if isinstance(value, float) else str(value)
        for name, value in row.drop(["step", "prompt", "completion"]).items()
        if pd.api.types.is_scalar(value) and pd.notna(value) and value != ""
    }
    return Sample(kind, int(row["step"]), plain_text(row["prompt"]), plain_text(row["completion"]), facts)


def plain_text(value: Any) -> str:
    """The text of a prompt or completion; of a conversation, each turn after its role."""
    if isinstance(value, str) or value is None:
        return value or ""
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
