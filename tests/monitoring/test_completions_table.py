"""The completions table: kept and dropped rows, columns of equal length."""

import math

import torch

from dapo_trl.monitoring.completions_table import append_dropped, length_columns, remove_last, reset_table
from dapo_trl.sampling.collection import GeneratedRow


def table_of_two_kept_rows() -> dict:
    logs = {}
    reset_table(logs, num_rows=4)
    logs["prompt"].extend(["p0", "p0"])
    logs["completion"].extend(["a", "b"])
    logs["advantages"].extend([1.0, -1.0])
    logs["rewards"]["correct"].extend([1.0, -1.0])
    logs["extra"]["dynamic_sampling"].extend(["kept", "kept"])
    return logs


def as_lists(logs: dict) -> dict:
    columns = {name: list(logs[name]) for name in ("prompt", "completion", "advantages")}
    return columns | {name: list(column) for kind in ("rewards", "extra") for name, column in logs[kind].items()}


def test_reset_makes_room_for_all_rows():
    logs = {"prompt": [1], "extra": {"old": [1]}}
    reset_table(logs, num_rows=3)
    assert as_lists(logs) == {"prompt": [], "completion": [], "advantages": []}
    for column in (logs["prompt"], logs["images"], logs["rewards"]["new"], logs["extra"]["new"]):
        column.extend(range(5))
        assert list(column) == [2, 3, 4]


def test_remove_last_takes_out_padding_rows():
    logs = table_of_two_kept_rows()
    remove_last(logs, 1)
    assert as_lists(logs) == {
        "prompt": ["p0"],
        "completion": ["a"],
        "advantages": [1.0],
        "correct": [1.0],
        "dynamic_sampling": ["kept"],
    }
    remove_last(logs, 0)
    assert list(logs["prompt"]) == ["p0"]


def test_dropped_rows_follow_the_kept_ones():
    logs = table_of_two_kept_rows()
    rows = [
        (2, GeneratedRow({"prompt": "p1"}, [1], [2], "c", extra={"dynamic_sampling": "all_wrong", "answer": "7"})),
        (3, GeneratedRow({"prompt": "p1"}, [1], [2], "d", extra={"dynamic_sampling": "all_wrong"})),
    ]
    rewards = torch.tensor([[1.0], [-1.0], [-1.0], [-0.5]])
    append_dropped(logs, rows, rewards, ["correct"])
    table = as_lists(logs)
    advantages = table.pop("advantages")
    assert advantages[:2] == [1.0, -1.0]
    assert all(math.isnan(value) for value in advantages[2:])
    assert table == {
        "prompt": ["p0", "p0", "p1", "p1"],
        "completion": ["a", "b", "c", "d"],
        "correct": [1.0, -1.0, -1.0, -0.5],
        "dynamic_sampling": ["kept", "kept", "all_wrong", "all_wrong"],
        "answer": [None, None, "7", None],
    }
    # A second batch of dropped rows keeps the columns equally long.
    append_dropped(logs, [(3, rows[1][1])], rewards, ["correct"])
    assert {len(column) for column in as_lists(logs).values()} == {4}  # the table's room


def test_nothing_dropped_changes_nothing():
    logs = table_of_two_kept_rows()
    append_dropped(logs, [], torch.zeros(2, 1), ["correct"])
    assert as_lists(logs) == as_lists(table_of_two_kept_rows())


def test_length_columns_tell_what_was_cut_off():
    columns = length_columns([[5, 6, 2], [5, 6, 7, 8], [0]], end_ids={0, 2})
    assert columns == {"num_tokens": [3, 4, 1], "is_truncated": [False, True, False]}
