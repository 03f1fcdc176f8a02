"""How a rollout's rows are spread over optimizer steps, micro-batches and processes."""

import pytest
import torch
from accelerate import Accelerator

from dapo_trl.batching.micro_batches import PADDING_ROW, Lengths
from dapo_trl.batching.optimizer_steps import assign_rows
from dapo_trl.batching.rollout import Rollout, RolloutPlan, buffered_denominators, gather_lengths, weigh_by_group


LENGTHS = [Lengths(1, completion) for completion in (9, 4, 4, 2, 8, 1)]
TRAINED = [9, 4, 0, 2, 8, 1]
STEPS = [[5, 0, 2], [3, 1, 4]]


def build_plan(lengths=LENGTHS, trained_tokens=TRAINED, steps=STEPS, **options) -> RolloutPlan:
    defaults = {
        "num_processes": 1,
        "num_micro_batches": 2,
        "num_generations": 2,
        "token_normalization": "step",
        "is_balanced": True,
        "has_equal_rows": False,
    }
    return RolloutPlan.build(lengths, trained_tokens, steps, **defaults | options)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_balanced_plan():
    plan = build_plan()
    # Step 0 holds rows of 10, 5 and 2 tokens: 10 | 2 * 5. Step 1 of 9, 5 and 3: 9 | 2 * 5.
    assert plan.partitions == [[[[0], [2, 5]]], [[[4], [1, 3]]]]
    assert plan.denominators == [10.0, 14.0]
    # Useful 10 + 5 + 2 + 9 + 5 + 3 = 34 tokens of 10 + 10 + 9 + 10 = 39 computed.
    assert plan.padding_metrics() == {"efficiency": 34 / 39, "max_micro_batch_tokens": 10}


def test_trained_tokens_of_the_micro_batches_add_up_to_the_denominator():
    plan = build_plan()
    assert [[plan.num_trained_tokens(step, k) for k in (0, 1)] for step in (0, 1)] == [[9, 1], [8, 6]]


def test_equal_rows_in_given_order_are_filled_up():
    plan = build_plan(is_balanced=False)
    assert plan.partitions == [[[[5, 0], [2, PADDING_ROW]]], [[[3, 1], [4, PADDING_ROW]]]]
    # A mean over the four slots of a step is too small by 4 / 3.
    assert [plan.row_mean_scale(step) for step in (0, 1)] == [4 / 3, 4 / 3]
    assert plan.num_trained_tokens(0, 1) == 0
    # 2 * 10, 2 * 5 (the padding row counts 2 tokens), 2 * 5, 2 * 9.
    assert plan.padding_metrics() == {"efficiency": 34 / 58, "max_micro_batch_tokens": 20}


def test_losses_that_average_over_rows_get_equal_row_counts():
    plan = build_plan(has_equal_rows=True)
    assert plan.partitions == [[[[0, 2], [5, PADDING_ROW]]], [[[4, 1], [3, PADDING_ROW]]]]


def test_no_padding_rows_no_scale():
    assert build_plan(num_micro_batches=3).row_mean_scale(0) == 1.0


def test_group_normalization_divides_by_groups_per_step():
    assert build_plan(token_normalization="group").denominators == [1.5, 1.5]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_every_row_has_one_owner_and_the_denominators_do_not_depend_on_processes(num_processes):
    plan = build_plan(num_processes=num_processes)
    assert sorted(plan.owners()) == list(range(6))
    assert set(plan.owners().values()) == set(range(num_processes))
    assert plan.denominators == [10.0, 14.0]


def test_the_plan_of_a_whole_rollout():
    lengths = [Lengths(3, 5 + row % 7) for row in range(64)]
    steps = assign_rows(64, 4, seed=0)
    trained = [length.completion for length in lengths]
    plan = build_plan(lengths, trained, steps, num_processes=2, num_micro_batches=3, num_generations=8)
    for step, partition in enumerate(plan.partitions):
        rows = [row for process in partition for micro_batch in process for row in micro_batch if row != PADDING_ROW]
        assert sorted(rows) == sorted(steps[step])
    assert sum(plan.denominators) == sum(trained)


def scored_rows() -> dict[str, torch.Tensor]:
    """Four rows with prompts of 1, 2, 2, 1 tokens and completions of 3, 1, 2, 2; the last is masked out."""
    return {
        "prompt_ids": torch.tensor([[0, 11], [21, 22], [31, 32], [0, 41]]),
        "prompt_mask": torch.tensor([[0, 1], [1, 1], [1, 1], [0, 1]]),
        "completion_ids": torch.tensor([[12, 13, 14], [23, 0, 0], [33, 34, 0], [42, 43, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]),
        "tool_mask": torch.tensor([[1, 0, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        "advantages": torch.tensor([3.0, 6.0, 4.0, 2.0]),
    }


def test_gather_lengths(accelerator):
    lengths, trained_tokens = gather_lengths(scored_rows(), accelerator)
    # A masked row keeps one completion token, and trains none.
    assert lengths == [(1, 3), (2, 1), (2, 2), (1, 1)]
    assert trained_tokens == [2, 1, 2, 0]


def test_weigh_by_group(accelerator):
    # Groups of 2 + 1 = 3 and 2 + 0 = 2 trained tokens.
    weighed = weigh_by_group(scored_rows(), accelerator, num_generations=2)
    torch.testing.assert_close(weighed, torch.tensor([1.0, 2.0, 2.0, 1.0]))


def test_buffered_denominators(accelerator):
    batches = [
        {name: value[start : start + 1] for name, value in scored_rows().items()}
        for start in range(4)  # one row each
    ]
    by_step = buffered_denominators(batches, accelerator, num_steps=2, token_normalization="step", num_groups=2)
    assert by_step.tolist() == [3.0, 2.0]
    by_group = buffered_denominators(batches, accelerator, num_steps=2, token_normalization="group", num_groups=2)
    assert by_group.tolist() == [1.0, 1.0]


def test_distribute_hands_out_the_rows_of_the_plan(accelerator):
    scored = scored_rows()
    lengths, trained_tokens = gather_lengths(scored, accelerator)
    # The fourth row is a padding row of the collected batch: the plan does not know it.
    plan = build_plan(lengths[:3], trained_tokens[:3], [[0, 2], [1]])
    rollout = Rollout.distribute(scored, plan, accelerator, pad_token_id=7)
    assert sorted(rollout.rows) == [0, 1, 2]
    (first,), (second,) = rollout.micro_batch(0, 0, 0), rollout.micro_batch(0, 0, 1)
    assert [first["completion_ids"].tolist(), second["completion_ids"].tolist()] == [[12, 13, 14], [33, 34]]
    (only,), (padding_row,) = rollout.micro_batch(1, 0, 0), rollout.micro_batch(1, 0, 1)
    assert only["completion_ids"].tolist() == [23]
    assert (padding_row["completion_ids"].tolist(), padding_row["completion_mask"].tolist()) == ([7], [0])
