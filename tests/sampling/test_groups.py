"""Outcomes of groups, judged by the filter reward (DAPO Eq. 11)."""

import math

import pytest
import torch

from dapo_trl.sampling.groups import Outcome, group_outcomes, is_graded, outcome_shares


NAN = math.nan


@pytest.mark.parametrize(
    ("group", "outcome"),
    [
        ([1.0, 1.0, 1.0], Outcome.ALL_CORRECT),
        ([-1.0, -1.0, -1.0], Outcome.ALL_WRONG),
        ([0.0, 0.0, 0.0], Outcome.ALL_WRONG),
        ([1.0, -1.0, -1.0], Outcome.INFORMATIVE),
        ([1.0, 1.0, 0.0], Outcome.INFORMATIVE),
        # The standard deviation of three times 0.1 is 1.4e-17 in double precision: not zero.
        ([0.1, 0.1, 0.1], Outcome.ALL_CORRECT),
        ([-0.1, -0.1, -0.1], Outcome.ALL_WRONG),
        ([0.25, 0.5, 0.25], Outcome.INFORMATIVE),
        ([0.9, 0.9, 0.9000001], Outcome.INFORMATIVE),
        ([1.0, NAN, -1.0], Outcome.UNSCORABLE),
        ([NAN, 1.0, 1.0], Outcome.UNSCORABLE),
        ([NAN, NAN, NAN], Outcome.UNSCORABLE),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outcome_of_a_group(group, outcome, dtype):
    assert group_outcomes(torch.tensor([group], dtype=dtype)) == [outcome]


@pytest.mark.parametrize(
    ("group", "threshold", "outcome"),
    [
        ([0.7, 0.7], 0.5, Outcome.ALL_CORRECT),
        ([0.5, 0.5], 0.5, Outcome.ALL_WRONG),  # above, not at
        ([0.7, 0.9], 0.5, Outcome.INFORMATIVE),  # both correct, and one is better
        ([-1.0, -1.0], -2.0, Outcome.ALL_CORRECT),
        ([0.7, 0.7], None, Outcome.ALL_EQUAL),
        ([-1.0, -1.0], None, Outcome.ALL_EQUAL),
        ([-1.0, NAN], None, Outcome.UNSCORABLE),
        ([-1.0, 1.0], None, Outcome.INFORMATIVE),
    ],
)
def test_outcome_by_threshold(group, threshold, outcome):
    assert group_outcomes(torch.tensor([group]), threshold) == [outcome]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -1.0, 1.0], False),
        ([1.0, 0.0], False),
        ([0.5, 0.5, NAN], False),
        ([0.3, 0.3000001, -0.0, 0.0], False),  # rounding
        ([1e-6, 2e-6], True),
        ([0.2, 0.7], True),  # which of the two is right?
        ([-1.0, 0.0], True),
        ([-1.0, -0.5, 1.0], True),
        ([0.0, 0.5, 1.0], True),
        ([NAN], False),
        ([], False),
    ],
)
def test_what_is_graded(values, expected):
    assert is_graded(torch.tensor(values)) == expected


def test_shares_without_a_threshold():
    outcomes = [Outcome.ALL_EQUAL, Outcome.ALL_CORRECT, Outcome.INFORMATIVE, Outcome.UNSCORABLE]
    assert outcome_shares(outcomes, has_threshold=False) == {
        "acceptance_rate": 0.25,
        "frac_all_equal": 0.5,  # the second one was judged when the reward had not turned out to be graded
        "frac_unscorable": 0.25,
    }
    assert "frac_all_equal" not in outcome_shares(outcomes)


def test_groups_are_judged_one_by_one():
    values = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [NAN, 1.0], [-1.0, 1.0]])
    assert group_outcomes(values) == ["informative", "all_correct", "all_wrong", "unscorable", "informative"]


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 1)])
def test_a_group_needs_two_completions(shape):
    with pytest.raises(ValueError, match=r"values has shape .*\(P, G\) with G >= 2"):
        group_outcomes(torch.zeros(shape))
