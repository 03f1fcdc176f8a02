"""avg@k, maj@k, pass@j and their intervals, against values worked by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from dapo_trl.evaluation.statistics import (
    NO_ANSWER,
    Estimate,
    average_at_k,
    estimate,
    majority_at_k,
    measures,
    paired_difference,
    pass_at_j,
)


def test_average_is_the_pass_rate_of_each_problem():
    assert average_at_k([[1, 0, 0, 1], [0, 0, 0, 0], [True, True, True, False]]).tolist() == [0.5, 0.0, 0.75]


@pytest.mark.parametrize(
    ("correct", "classes", "expected"),
    [
        ([1, 1, 0, 0, 0], [0, 0, 1, 2, 3], 1.0),  # two right votes, the wrong ones are split
        ([1, 1, 0, 0, 0], [0, 0, 1, 1, 1], 0.0),
        ([1, 1, 0, 0, 0], [0, 0, 1, 1, 2], 0.5),  # a tie of two
        ([1, 0, 0, 0, 0], [4, 0, 1, NO_ANSWER, NO_ANSWER], 1 / 3),  # a tie of three
        ([1, 0, 0, 0, 0], [0, NO_ANSWER, NO_ANSWER, NO_ANSWER, NO_ANSWER], 1.0),  # no answer, no vote
        ([0, 0, 0, 0, 0], [NO_ANSWER] * 5, 0.0),
    ],
)
def test_majority(correct, classes, expected):
    assert majority_at_k([correct], [classes]) == pytest.approx([expected])


def test_majority_does_not_depend_on_the_order_of_samples():
    votes = [(1, 7), (0, 2), (0, 2), (1, 7), (0, 5)]
    values = {
        float(majority_at_k([[c for c, _ in order]], [[g for _, g in order]])[0])
        for order in itertools.permutations(votes)
    }
    assert values == {0.5}


@pytest.mark.parametrize(
    ("num_right", "j", "expected"),
    [
        (1, 1, 1 / 4),
        (1, 2, 1 / 2),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (2, 2, 5 / 6),  # 1 - C(2,2)/C(4,2)
        (1, 4, 1.0),
        (2, 3, 1.0),  # three samples cannot all be among the two wrong ones
        (0, 4, 0.0),
        (4, 1, 1.0),
    ],
)
def test_pass_at_j(num_right, j, expected):
    assert pass_at_j([[1] * num_right + [0] * (4 - num_right)], j) == pytest.approx([expected])


def test_pass_at_j_is_the_mean_over_all_ways_to_draw_j():
    samples = [1, 0, 0, 1, 0, 0, 0]
    draws = list(itertools.combinations(samples, 3))
    assert pass_at_j([samples], 3) == pytest.approx([sum(any(draw) for draw in draws) / len(draws)])


def test_pass_at_1_is_the_average_and_large_k_does_not_overflow():
    correct = np.zeros((3, 1024))
    correct[1, :300], correct[2, :] = 1, 1
    assert pass_at_j(correct, 1) == pytest.approx(average_at_k(correct))
    assert pass_at_j(correct, 512) == pytest.approx([0, 1, 1])


@pytest.mark.parametrize(("k", "expected"), [(1, [1]), (12, [1, 2, 4, 8, 12]), (32, [1, 2, 4, 8, 16, 32])])
def test_sizes_of_pass(k, expected):
    assert list(measures([[0] * k])) == [f"avg@{k}", *(f"pass@{j}" for j in expected)]


def test_measures_by_name():
    values = measures([[1, 0, 0], [1, 1, 0]], [[0, 1, 1], [0, 0, NO_ANSWER]])
    assert {name: value.tolist() for name, value in values.items()} == {
        "avg@3": pytest.approx([1 / 3, 2 / 3]),
        "maj@3": [0, 1],
        "pass@1": pytest.approx([1 / 3, 2 / 3]),
        "pass@2": pytest.approx([2 / 3, 1]),  # 1 - C(2,2)/C(3,2)
        "pass@3": pytest.approx([1, 1]),
    }
    assert "maj@2" not in measures([[1, 0]])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_interval_of_equal_values(value):
    # All or nothing is not excluded: D = 1. Of n = 10 (1.960 / 2.262)^2 = 7.51 trials none succeeds with probability
    # (1 - high)^n = 2.5%.
    interval = estimate([value] * 10)
    high = 1 - 0.025 ** (1 / 7.508)
    assert interval.mean == value
    assert [interval.low, interval.high] == pytest.approx([0, high] if value == 0 else [1 - high, 1], abs=1e-3)


def test_interval_of_two_problems():
    # D = (2 * 0.5 + 1/4) / (2/4 + 1/4) = 5/3, and n = 2 * 3/5 (1.960 / 12.706)^2 = 0.029: they say nothing.
    interval = estimate([0.0, 1.0])
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0, 1), abs=1e-6)


@pytest.mark.parametrize("num_right", [3, 40, 97])
def test_interval_of_all_or_nothing_is_the_binomial_one(num_right):
    interval = estimate([1.0] * num_right + [0.0] * (100 - num_right))
    exact = binomtest(num_right, 100).proportion_ci(method="exact")
    assert interval.mean == pytest.approx(num_right / 100)
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=0.003)


def test_problems_that_agree_narrow_the_interval():
    # D = (100/99 + 1/4) / (25 + 1/4) = 0.05: as 2,000 problems that are all or nothing, 2 sqrt(0.25 / 2000) = 0.022.
    interval = estimate([0.4, 0.6] * 50)
    assert (interval.low, interval.high) == pytest.approx((0.478, 0.522), abs=2e-3)


@pytest.mark.parametrize(
    ("num_problems", "mean", "shape"), [(30, 0.03, 0.3), (30, 0.03, 4), (30, 0.5, 1), (30, 0.95, 0.3), (100, 0.01, 1)]
)
@pytest.mark.parametrize("measure", ["avg", "maj"])
def test_the_interval_holds_the_truth_in_95_of_100_experiments(num_problems, mean, shape, measure):
    """Of weak and strong models, with pass rates from a beta distribution, 32 samples per problem."""
    draw = np.random.default_rng(1)

    def values(size):
        num_right = draw.binomial(32, draw.beta(mean * shape, (1 - mean) * shape, size))
        return num_right / 32 if measure == "avg" else (num_right > 16) * 1.0

    truth = mean if measure == "avg" else values(1_000_000).mean()
    found = [estimate(experiment) for experiment in values((1000, num_problems))]
    assert np.mean([interval.low <= truth <= interval.high for interval in found]) >= 0.94
    assert all(0 <= interval.low <= interval.mean <= interval.high <= 1 for interval in found)


def test_a_single_problem_has_no_interval():
    result = estimate([0.5])
    assert math.isnan(result.low) and math.isnan(result.high)
    assert result.as_dict() == {"mean": 0.5, "low": None, "high": None}


def test_of_equal_models_5_of_100_comparisons_say_that_they_differ():
    draw = np.random.default_rng(0)
    pass_rates = draw.beta(0.5, 0.5, (400, 30))
    first, second = draw.binomial(32, pass_rates) / 32, draw.binomial(32, pass_rates) / 32
    found = [paired_difference(*pair) for pair in zip(first, second, strict=True)]
    assert 0.03 <= np.mean([interval.low > 0 or interval.high < 0 for interval in found]) <= 0.08


def test_difference_of_two_problems():
    # The mean of a resample of (0, 1) is 0, 0.5 or 1 with probabilities 1/4, 1/2, 1/4: both tails exceed 2.5%.
    assert paired_difference([0.0, 0.0], [0.0, 1.0]) == Estimate(0.5, 0.0, 1.0)


def test_comparisons_can_be_repeated():
    first, second = np.random.default_rng(0).random((2, 30))
    assert paired_difference(first, second) == paired_difference(first, second)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_equal_differences_have_no_interval(values):
    result = paired_difference([0.0] * len(values), values)
    assert result.as_dict() == {"mean": 0.5, "low": None, "high": None}


def test_a_paired_difference_is_sharper_than_two_intervals():
    first = np.array([0.0] * 50 + [1.0] * 50)
    second = np.clip(first + np.where(np.arange(100) % 10 == 0, 0.5, 0.0), 0, 1)  # ten problems; the half gain
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.025)  # five problems gain 0.5
    assert 0 < difference.low < difference.mean < difference.high
    assert estimate(second).low < estimate(first).high  # side by side they overlap
    assert paired_difference(second, first).mean == pytest.approx(-0.025)
