"""Denominators and weights of the token-level loss (DAPO Eq. 8 and 12)."""

import pytest
import torch

from dapo_trl.batching.optimizer_steps import group_weights, step_denominators


def test_a_step_divides_by_its_own_tokens():
    # Step 0 holds rows of 5 and 1 tokens, step 1 rows of 2 and 10.
    assert step_denominators([[0, 3], [2, 1]], [5, 10, 2, 1], "step", num_groups=2) == [6.0, 12.0]


def test_a_step_without_trained_tokens_divides_by_one():
    assert step_denominators([[0], [1]], [0, 4], "step", num_groups=1) == [1.0, 4.0]


def test_a_step_divides_by_its_share_of_the_groups():
    assert step_denominators([[0, 3], [2, 1]], [5, 10, 2, 1], "group", num_groups=3) == [1.5, 1.5]


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
