"""What the completions of one prompt say about it (DAPO Sec. 3.2)."""

from collections import Counter
from enum import StrEnum

import torch


class Outcome(StrEnum):
    """Outcome of a group, judged by the deciding reward of its G completions."""

    INFORMATIVE = "informative"
    ALL_CORRECT = "all_correct"
    ALL_WRONG = "all_wrong"
    UNSCORABLE = "unscorable"


def deciding_values(rewards_per_func: torch.Tensor, deciding: list[int]) -> torch.Tensor:
    """
    What says whether each completion is right: the value of the first deciding reward that has scored it.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(B, F)`): NaN where a function does not apply.
        deciding (`list[int]`): columns of the deciding rewards, at least one.

    Returns:
        `torch.Tensor` of shape `(B,)`: NaN where none of them applies.
    """
    values = rewards_per_func[:, deciding]
    first = (~values.isnan()).int().argmax(dim=1, keepdim=True)
    return values.gather(1, first).squeeze(1)


def group_outcomes(deciding: torch.Tensor) -> list[Outcome]:
    r"""
    Outcome of each group (DAPO Eq. 11, https://huggingface.co/papers/2503.14476).

    A group is informative, and carries a gradient, if some of its completions are right and some are not:

    $$ 0 < |\{o_i : \mathrm{is\_equivalent}(a, o_i)\}| < G $$

    The largest value is compared with the smallest: a standard deviation of equal floats need not be zero.

    Args:
        deciding (`torch.Tensor` of shape `(P, G)`):
            Value of the deciding reward per completion; NaN where it could not be computed.

    Returns:
        `list[Outcome]` of length P: `UNSCORABLE` with any NaN, else `INFORMATIVE` if the values differ, else
        `ALL_CORRECT` if the common value is positive, else `ALL_WRONG`.

    Raises:
        ValueError: if `deciding` is not two-dimensional, or G < 2 (a single completion has no group to compare with).
    """
    if deciding.dim() != 2 or deciding.size(1) < 2:
        raise ValueError(
            f"deciding has shape {tuple(deciding.shape)}, but one row per group and at least two completions per "
            "group are needed. Pass a tensor of shape (P, G) with G >= 2."
        )
    is_unscorable = torch.isnan(deciding).any(dim=1).tolist()
    largest = deciding.max(dim=1).values.tolist()
    smallest = deciding.min(dim=1).values.tolist()
    return [_outcome(*group) for group in zip(is_unscorable, largest, smallest, strict=True)]


def _outcome(is_unscorable: bool, largest: float, smallest: float) -> Outcome:
    if is_unscorable:
        return Outcome.UNSCORABLE
    if largest > smallest:
        return Outcome.INFORMATIVE
    return Outcome.ALL_CORRECT if largest > 0 else Outcome.ALL_WRONG


def outcome_shares(outcomes: list[Outcome]) -> dict[str, float]:
    """
    How often each outcome occurs.

    Args:
        outcomes (`list[Outcome]`): outcomes of generated groups.

    Returns:
        `dict[str, float]`: fractions `acceptance_rate` (of informative groups), `frac_all_correct`, `frac_all_wrong`
        and `frac_unscorable`.
    """
    counts, num_groups = Counter(outcomes), max(1, len(outcomes))
    return {
        "acceptance_rate": counts[Outcome.INFORMATIVE] / num_groups,
        "frac_all_correct": counts[Outcome.ALL_CORRECT] / num_groups,
        "frac_all_wrong": counts[Outcome.ALL_WRONG] / num_groups,
        "frac_unscorable": counts[Outcome.UNSCORABLE] / num_groups,
    }


def informative_groups(deciding: torch.Tensor) -> torch.Tensor:
    """
    Groups to train on: see [`group_outcomes`].

    Args:
        deciding (`torch.Tensor` of shape `(P, G)`): value of the deciding reward per completion.

    Returns:
        `torch.Tensor` of shape `(P,)`, bool.
    """
    return torch.tensor([outcome is Outcome.INFORMATIVE for outcome in group_outcomes(deciding)])
