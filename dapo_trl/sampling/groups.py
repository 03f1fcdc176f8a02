"""What the completions of one prompt say about it (DAPO Sec. 3.2)."""

from collections import Counter
from enum import StrEnum

import torch


class Outcome(StrEnum):
    """
    Outcome of a group, judged by the filter reward of its G completions.

    Groups with equal values are all correct or all wrong, and just all equal where a graded reward leaves that open.
    """

    INFORMATIVE = "informative"
    ALL_CORRECT = "all_correct"
    ALL_WRONG = "all_wrong"
    ALL_EQUAL = "all_equal"
    UNSCORABLE = "unscorable"


def filter_values(rewards_per_func: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """
    `(B,)`: of each row of `(B, F)` rewards the value of the first filter reward that has scored it, which says whether
    the completion is right; NaN where none has.
    """
    values = rewards_per_func[:, columns]
    first = (~values.isnan()).int().argmax(dim=1, keepdim=True)
    return values.gather(1, first).squeeze(1)


def is_graded(values: torch.Tensor) -> bool:
    """
    Whether a reward has more than one value above zero, or more than one that is not: some completions are better than
    others, and where right begins is not in the values. NaN and rounding do not count.
    """
    values = values[~values.isnan()]
    sides = [side for side in (values[values > 0], values[values <= 0]) if len(side)]
    return not all(side.min().isclose(side.max()) for side in sides)


def group_outcomes(values: torch.Tensor, threshold: float | None = 0.0) -> list[Outcome]:
    r"""
    Outcome of each group (DAPO Eq. 11, https://huggingface.co/papers/2503.14476).

    A group is informative, and carries a gradient, if some of its completions are right and some are not:

    $$ 0 < |\{o_i : \mathrm{is\_equivalent}(a, o_i)\}| < G $$

    Of a graded reward, values that differ carry a gradient whether or not they lie on one side of the threshold, so
    that such a group is informative, too. The largest value is compared with the smallest: a standard deviation of
    equal floats need not be zero.

    Args:
        values (`torch.Tensor` of shape `(P, G)`):
            Filter reward of each completion; NaN where it could not be computed.
        threshold (`float`, *optional*, defaults to `0.0`):
            Completions are correct above it; None if that is not known.

    Raises:
        ValueError: if `values` is not two-dimensional, or G < 2 (a single completion has no group to compare with).
    """
    if values.dim() != 2 or values.size(1) < 2:
        raise ValueError(
            f"values has shape {tuple(values.shape)}, but one row per group and at least two completions per group "
            "are needed. Pass a tensor of shape (P, G) with G >= 2."
        )
    is_unscorable = torch.isnan(values).any(dim=1).tolist()
    largest, smallest = values.amax(dim=1).tolist(), values.amin(dim=1).tolist()
    return [_outcome(*group, threshold) for group in zip(is_unscorable, largest, smallest, strict=True)]


def _outcome(is_unscorable: bool, largest: float, smallest: float, threshold: float | None) -> Outcome:
    if is_unscorable:
        return Outcome.UNSCORABLE
    if largest > smallest:
        return Outcome.INFORMATIVE
    if threshold is None:
        return Outcome.ALL_EQUAL
    return Outcome.ALL_CORRECT if largest > threshold else Outcome.ALL_WRONG


def outcome_shares(outcomes: list[Outcome], has_threshold: bool = True) -> dict[str, float]:
    """
    Fractions `acceptance_rate` (informative groups), `frac_all_correct`, `frac_all_wrong`, `frac_unscorable`; without
    a threshold `frac_all_equal` takes the place of the two in the middle.
    """
    counts, num_groups = Counter(outcomes), max(1, len(outcomes))
    equal = {"frac_all_correct": [Outcome.ALL_CORRECT], "frac_all_wrong": [Outcome.ALL_WRONG]}
    if not has_threshold:  # groups of earlier rounds may have been judged before the reward turned out to be graded
        equal = {"frac_all_equal": [Outcome.ALL_EQUAL, Outcome.ALL_CORRECT, Outcome.ALL_WRONG]}
    return {
        "acceptance_rate": counts[Outcome.INFORMATIVE] / num_groups,
        **{name: sum(counts[outcome] for outcome in members) / num_groups for name, members in equal.items()},
        "frac_unscorable": counts[Outcome.UNSCORABLE] / num_groups,
    }
