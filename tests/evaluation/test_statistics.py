"""avg@k, maj@k, pass@j and their intervals, against values worked by hand."""

import itertools
import math

import numpy as np
import pytest

from dapo_trl.evaluation.statistics import (
    NO_ANSWER,
    Estimate,
    average_at_k,
    estimate,
    estimate_share,
    majority_at_k,
    measures,
    paired_difference,
    pass_at_j,
    pass_sizes,
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
def test_pass_sizes(k, expected):
    assert pass_sizes(k) == expected


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


def test_interval_of_two_problems():
    # The mean of a resample of (0, 1) is 0, 0.5 or 1 with probabilities 1/4, 1/2, 1/4: both tails exceed 2.5%.
    assert estimate([0.0, 1.0]) == Estimate(0.5, 0.0, 1.0)


def test_interval_of_many_problems_is_the_binomial_one():
    # 40 of 100 solved: the resampled number is binomial(100, 0.4), whose 2.5% and 97.5% points are 31 and 50.
    interval = estimate([1.0] * 40 + [0.0] * 60)
    assert interval.mean == pytest.approx(0.4)
    assert (interval.low, interval.high) == (pytest.approx(0.31, abs=0.011), pytest.approx(0.5, abs=0.011))


def test_the_interval_holds_the_truth_in_95_of_100_experiments():
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        interval = estimate(draw.binomial(1, 0.5, size=60))
        covered += interval.low <= 0.5 <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_equal_seeds_give_equal_intervals_and_others_others():
    values = np.random.default_rng(0).random(30)
    assert estimate(values, seed=3) == estimate(values, seed=3)
    assert estimate(values, seed=3) != estimate(values, seed=4)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_problems_without_spread_have_no_interval(values):
    result = estimate(values)
    assert result.mean == 0.5
    assert math.isnan(result.low) and math.isnan(result.high)
    assert result.as_dict() == {"mean": 0.5, "low": None, "high": None}


def test_one_problem_that_differs_makes_an_interval():
    # A resample of three holds the third problem 0, 1, 2 or 3 times: P(0) = 8/27 and P(3) = 1/27, above 2.5%.
    assert estimate([0.0, 0.0, 1.0]) == Estimate(pytest.approx(1 / 3), 0.0, 1.0)


def test_the_interval_of_independent_answers_is_that_of_clopper_and_pearson():
    # 3 of 30: by tables 0.021 to 0.265. The sample variance (ddof 1) leaves 29 answers, 29 degrees of freedom 26.6.
    interval = estimate_share([1.0] * 3 + [0.0] * 27)
    assert (interval.low, interval.high) == (pytest.approx(0.018, abs=0.002), pytest.approx(0.28, abs=0.005))


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 0.122), (1.0, 0.878, 1.0)])
def test_problems_without_spread_count_as_one_answer_each(value, low, high):
    # 1 - 0.025 ** (1 / 30) = 0.116; with 27.6 answers for 30 problems 0.125.
    interval = estimate_share([value] * 30)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_a_single_problem_has_no_interval():
    assert estimate_share([0.5]).as_dict() == {"mean": 0.5, "low": None, "high": None}


def test_the_interval_of_a_weak_model_holds_the_truth_more_often_than_the_bootstrap():
    draw, covered = np.random.default_rng(0), [0, 0]
    for _ in range(200):
        values = draw.binomial(32, draw.beta(0.15, 4.85, 30)) / 32
        for number, interval in enumerate((estimate_share(values), estimate(values))):
            covered[number] += interval.low <= 0.03 <= interval.high
    assert covered[0] >= 170 and covered[0] - covered[1] >= 8


def test_the_paired_comparison_errs_in_about_5_of_100_experiments():
    draw, num_errors = np.random.default_rng(0), 0
    for _ in range(200):
        chances = draw.beta(0.5, 0.5, 30)
        difference = paired_difference(draw.binomial(32, chances) / 32, draw.binomial(32, chances) / 32)
        num_errors += not difference.low <= 0 <= difference.high
    assert 4 <= num_errors <= 20


def test_a_paired_difference_is_sharper_than_two_intervals():
    first = np.array([0.0] * 50 + [1.0] * 50)
    second = np.clip(first + np.where(np.arange(100) % 10 == 0, 0.5, 0.0), 0, 1)  # ten problems; the half gain
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.025)  # five problems gain 0.5
    assert 0 < difference.low < difference.mean < difference.high
    assert estimate(second).low < estimate(first).high  # side by side they overlap
    assert paired_difference(second, first).mean == pytest.approx(-0.025)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_at_k([1, 0]), r"correct has shape \(2,\), but it must be \(P, K\)"),
        (lambda: average_at_k(np.zeros((0, 4))), r"correct has shape \(0, 4\)"),
        (lambda: average_at_k([[1, math.nan]]), "correct holds nan, .* Leave out problems that cannot be scored"),
        (lambda: average_at_k([[1, -1]]), "correct holds -1.0, but it must be 1"),
        (lambda: majority_at_k([[1, 0]], [[1]]), r"classes has shape \(1, 1\), but it must be .* \(1, 2\)"),
        (lambda: pass_at_j([[1, 0]], 3), "j=3 must be from 1 to the number of samples per problem, 2"),
        (lambda: pass_at_j([[1, 0]], 0), "j=0 must be from 1"),
        (lambda: estimate([]), r"values has shape \(0,\)"),
        (lambda: estimate_share([0.5, 1.5]), r"values must be shares in \[0, 1\]"),
        (lambda: paired_difference([1, 0], [1]), r"shapes \(2,\) and \(1,\): not the same problems"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
