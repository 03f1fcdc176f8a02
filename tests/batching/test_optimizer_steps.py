"""Which rows form which optimizer step, and what its losses are divided by."""

import pytest
import torch

from dapo_trl.batching.optimizer_steps import assign_rows, group_weights, step_denominators


@pytest.mark.parametrize(
    ("num_rows", "num_steps", "sizes"),
    [(12, 3, [4, 4, 4]), (10, 4, [3, 3, 2, 2]), (5, 5, [1] * 5), (7, 1, [7])],
)
def test_every_row_is_assigned_once(num_rows, num_steps, sizes):
    steps = assign_rows(num_rows, num_steps, seed=0)
    assert [len(rows) for rows in steps] == sizes
    assert sorted(sum(steps, [])) == list(range(num_rows))


def test_the_seed_decides_the_assignment_which_mixes_groups():
    steps = assign_rows(64, 4, seed=1)
    assert steps == assign_rows(64, 4, seed=1) != assign_rows(64, 4, seed=2)
    assert all(len({row // 16 for row in rows}) > 1 for rows in steps)


def test_every_step_needs_a_row():
    with pytest.raises(ValueError, match="3 rows cannot fill 4 optimizer steps"):
        assign_rows(3, 4, seed=0)


# Denominators and weights of the token-level loss (DAPO Eq. 8 and 12)


@pytest.mark.parametrize(
    ("steps", "tokens", "normalization", "num_groups", "expected"),
    [
        ([[0, 3], [2, 1]], [5, 10, 2, 1], "step", 2, [6.0, 12.0]),  # rows of 5 and 1 tokens, and of 2 and 10
        ([[0], [1]], [0, 4], "step", 1, [1.0, 4.0]),  # nothing to divide
        ([[0, 3], [2, 1]], [5, 10, 2, 1], "group", 3, [1.5, 1.5]),  # its share of the groups
    ],
)
def test_denominators(steps, tokens, normalization, num_groups, expected):
    assert step_denominators(steps, tokens, normalization, num_groups) == expected


def test_weights_are_one_over_the_tokens_of_the_group():
    # 3 + 1 + 0 + 0 = 4 tokens, 2 + 2 + 2 + 2 = 8 tokens, and a group whose completions are all masked.
    tokens = torch.tensor([3, 1, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0])
    weights = group_weights(tokens, num_generations=4)
    assert weights.tolist() == [0.25] * 4 + [0.125] * 4 + [0.0] * 4
    assert weights.dtype == torch.float32


def test_the_mean_over_steps_is_the_mean_over_groups():
    # Token losses of the rows sum to 6, 2 (group 0: 8 over 4 tokens = 2) and 5, 7 (group 1: 12 over 3 tokens = 4).
    sums, tokens, steps = [6.0, 2.0, 5.0, 7.0], [3, 1, 1, 2], [[3, 0], [1, 2]]
    weights = group_weights(torch.tensor(tokens), num_generations=2).tolist()
    denominators = step_denominators(steps, tokens, "group", num_groups=2)
    losses = [
        sum(sums[row] * weights[row] for row in rows) / denominator
        for rows, denominator in zip(steps, denominators, strict=True)
    ]
    # Step 0: 7 / 3 + 6 / 4; step 1: 2 / 4 + 5 / 3. Their mean is (2 + 4) / 2.
    assert losses == pytest.approx([23 / 6, 13 / 6])
    assert sum(losses) / 2 == pytest.approx(3.0)
