"""The table of completions that TRL writes and prints, extended by the rows that were not trained on."""

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

import torch

from ..run.secret_values import mask_values
from ..sampling.collection import GeneratedRow


def reset_table(logs: dict[str, Any], num_rows: int) -> None:
    """Empties TRL's log buffers and makes room for all rows of a rollout."""
    for name in ("images", "prompt", "completion", "advantages"):
        logs[name] = deque(maxlen=num_rows)
    for name in ("rewards", "extra"):
        logs[name] = defaultdict(lambda: deque(maxlen=num_rows))


def remove_last(logs: dict[str, Any], num_rows: int) -> None:
    """Takes the last rows out again: padding rows."""
    for column in _columns(logs):
        for _ in range(min(num_rows, len(column))):
            column.pop()


def append_dropped(
    logs: dict[str, Any], rows: list[tuple[int, GeneratedRow]], rewards_per_func: torch.Tensor, names: list[str]
) -> None:
    """
    Adds rows that were not trained on, by number, without an advantage (NaN); rewards `(P * G, F)` are of all rows.
    """
    extra_names = set(logs["extra"]).union(*(row.extra for _, row in rows))
    for name in extra_names:
        # A column that no kept row has starts empty: its cells for them are None.
        logs["extra"][name].extend([None] * (len(logs["prompt"]) - len(logs["extra"][name])))
    for number, row in rows:
        logs["prompt"].append(row.inputs["prompt"])
        logs["completion"].append(row.completion)
        logs["advantages"].append(float("nan"))
        for name, reward in zip(names, rewards_per_func[number].tolist(), strict=True):
            logs["rewards"][name].append(reward)
        for name in extra_names:
            logs["extra"][name].append(row.extra.get(name))


def length_columns(completion_ids: list[list[int]], end_ids: set[int]) -> dict[str, list]:
    """Columns that only tokens can tell: `num_tokens`, and `is_truncated` (not ended by one of `end_ids`)."""
    return {
        "num_tokens": [len(ids) for ids in completion_ids],
        "is_truncated": [ids[-1] not in end_ids for ids in completion_ids],
    }


def mask_table(logs: dict[str, Any]) -> None:
    """Takes secrets out of all texts, such as what a reward function has logged."""
    for column in _columns(logs):
        masked = mask_values(list(column))
        column.clear()
        column.extend(masked)


def _columns(logs: dict[str, Any]) -> Iterable[deque]:
    yield from (logs["prompt"], logs["completion"], logs["advantages"])
    yield from logs["rewards"].values()
    yield from logs["extra"].values()
