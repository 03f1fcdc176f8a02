"""Outcomes of groups, judged by the deciding reward (DAPO Eq. 11)."""

import math

import pytest
import torch

from dapo_trl.sampling import Outcome, group_outcomes, informative_groups


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


def test_groups_are_judged_one_by_one():
    deciding = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [NAN, 1.0], [-1.0, 1.0]])
    assert group_outcomes(deciding) == ["informative", "all_correct", "all_wrong", "unscorable", "informative"]
    assert informative_groups(deciding).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 1)])
def test_a_group_needs_two_completions(shape):
    with pytest.raises(ValueError, match=r"deciding has shape .*\(P, G\) with G >= 2"):
        group_outcomes(torch.zeros(shape))
