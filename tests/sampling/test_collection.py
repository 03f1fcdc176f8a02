"""Rows collected over rounds, and handed to TRL's scoring step."""

import math
from types import SimpleNamespace

import pytest
import torch

from dapo_trl.sampling.collection import (
    Collection,
    GeneratedRow,
    collected_batch,
    columns_to_rows,
    generated_rows,
    padding_completion,
    rows_to_columns,
)
from dapo_trl.sampling.groups import Outcome
from dapo_trl.sampling.refill import GroupPool


ONE_PROCESS = SimpleNamespace(process_index=0, num_processes=1)
PADDING = padding_completion({"prompt": "p0"}, token_id=1)
GOOD, WRONG = Outcome.INFORMATIVE, Outcome.ALL_WRONG


def row(number: int, **fields) -> GeneratedRow:
    return GeneratedRow({"prompt": f"p{number // 2}"}, [10, number], [20, number, 1], f"c{number}", **fields)


def collect(keeps_dropped: bool = False, **fields) -> tuple[Collection, GroupPool]:
    """Two rounds of two and one groups of two: kept, all wrong, kept; the fourth group of the pool is missing."""
    pool, collection = GroupPool(size=4), Collection(2, keeps_dropped)
    rewards = torch.arange(6.0).view(6, 1)
    for numbers, outcomes in (([0, 1, 2, 3], [GOOD, WRONG]), ([4, 5], [GOOD])):
        rows = [row(number, **fields) for number in numbers]
        collection.add_call(rows, 0, rewards[numbers], {"completions/max_length": 3, "completions/clipped_ratio": 0})
        pool.add_round(outcomes)
        collection.drop_rejected(pool)
    return collection, pool


def test_rows_are_numbered_in_draw_order():
    collection, pool = collect(keeps_dropped=True)
    assert [collection.rows[number].completion for number in range(6)] == [f"c{number}" for number in range(6)]
    assert collection.num_rows == 6
    assert collection.rewards_per_func().flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert collection.kept_numbers(pool) == [0, 1, 4, 5]


def test_a_process_numbers_its_share_of_a_call():
    collection = Collection(2, keeps_dropped=True)
    for _ in range(2):
        collection.add_call([row(0), row(1)], process=1, rewards=torch.zeros(4, 1), metrics={})
    assert sorted(collection.rows) == [2, 3, 6, 7]


def test_rejected_rows_are_let_go_unless_the_table_wants_them():
    assert sorted(collect()[0].rows) == [0, 1, 4, 5]
    collection, pool = collect(keeps_dropped=True)
    assert [(number, dropped.extra) for number, dropped in collection.dropped(pool)] == [
        (2, {"dynamic_sampling": "all_wrong"}),
        (3, {"dynamic_sampling": "all_wrong"}),
    ]


def test_collected_batch_holds_the_kept_rows_in_draw_order():
    collection, pool = collect()
    batch = collected_batch(collection, pool, ONE_PROCESS, PADDING, has_logprobs=False)
    assert (batch.num_rows, batch.num_padding_rows) == (4, 0)
    assert batch.inputs() == [{"prompt": "p0"}, {"prompt": "p0"}, {"prompt": "p2"}, {"prompt": "p2"}]
    assert batch.rewards.flatten().tolist() == [0, 1, 4, 5]
    prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images = (
        batch.generation()
    )
    assert prompt_ids == [[10, 0], [10, 1], [10, 4], [10, 5]]
    assert completion_ids == [[20, 0, 1], [20, 1, 1], [20, 4, 1], [20, 5, 1]]
    assert completions == ["c0", "c1", "c4", "c5"]
    assert (tool_mask, logprobs, extra_fields, images, tool_images) == (None, None, {}, None, [])
    assert batch.extra_columns() == {"dynamic_sampling": ["kept"] * 4}


@pytest.mark.parametrize(("process", "num_rows"), [(0, 3), (1, 0)])
def test_padding_rows_make_the_shares_equal(monkeypatch, process, num_rows):
    # One group of three for two processes: whole groups on equal shares take six slots, three on each.
    monkeypatch.setattr("dapo_trl.sampling.collection.all_to_all", lambda outgoing, accelerator: outgoing[process])
    rows = {number: row(number) for number in range(3)} if process == 0 else {}
    collection = Collection(3, keeps_dropped=False, rows=rows, rewards=[torch.ones(3, 1)])
    processes = SimpleNamespace(process_index=process, num_processes=2)
    batch = collected_batch(collection, GroupPool(2, [0], [GOOD]), processes, PADDING, has_logprobs=False)
    assert (batch.num_rows, batch.num_padding_rows) == (3, 3)
    assert [each is PADDING for each in batch.rows] == [False] * num_rows + [True] * (3 - num_rows)
    assert batch.rewards[:3].tolist() == [[1.0]] * 3
    assert batch.rewards[3:].isnan().all()


def test_padding_rows_have_one_token_and_no_reward():
    collection, pool = collect(tool_mask=[1, 0, 1], logprobs=[-1.0, -2.0, -3.0])
    batch = collected_batch(collection, pool, ONE_PROCESS, PADDING, has_logprobs=True)
    batch.rows.append(PADDING)
    prompt_ids, completion_ids, tool_mask, completions, logprobs, *_ = batch.generation()
    assert (prompt_ids[-1], completion_ids[-1], completions[-1]) == ([1], [1], "")
    assert tool_mask == [[1, 0, 1]] * 4 + [[1]]
    assert logprobs[:4] == [[-1.0, -2.0, -3.0]] * 4
    assert len(logprobs[4]) == 1 and math.isnan(logprobs[4][0])  # TRL leaves NaN out of its statistics


def test_generated_rows():
    generation = ([[1], [2]], [[3], [4]], None, ["a", "b"], [[-1.0], [-2.0]], {}, None, [])
    first, second = generated_rows([{"prompt": "p"}, {"prompt": "q"}], generation, [{}, {"answer": 5}])
    assert first == GeneratedRow({"prompt": "p"}, [1], [3], "a", None, [-1.0], {})
    assert second == GeneratedRow({"prompt": "q"}, [2], [4], "b", None, [-2.0], {"answer": 5})


def test_columns_and_rows():
    rows = [{"answer": 1, "unit": "m"}, {"answer": 2, "unit": None}]
    assert columns_to_rows({"answer": [1, 2], "unit": ["m", None]}, 2) == rows
    assert columns_to_rows({}, 2) == [{}, {}]
    assert rows_to_columns([{"a": 1}, {"b": 2}, {"a": 3}]) == {"a": [1, None, 3], "b": [None, 2, None]}


@pytest.mark.parametrize("values", [[1], [1, 2, 3]])
def test_a_column_needs_one_value_per_completion(values):
    with pytest.raises(ValueError, match=rf"logged {len(values)} values to the column 'answer'.*there are 2 compl"):
        columns_to_rows({"answer": values}, 2)
