"""Reference answers: read from a value of a data set, and compared with each other."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ..rewards import AccuracyReward
from ..rewards.answers import find_auto, find_gold


_ROUNDED_FROM = 2**53


def read_gold(value: Any, is_worked: bool = False) -> str | None:
    r"""
    The reference answer in a value of the solution column; None if there is none.

    Args:
        value: a text, a number, or a list of one of these; NaN is none. Of a text with `####` (GSM8K) what follows the
            last one is taken, of a text with `\boxed{}` what the `accuracy` reward reads in it, all different ones
            (`3, 5`), else all of it.
        is_worked (`bool`, *optional*, defaults to `False`): the text is a worked solution (MATH): its last box counts,
            with those enumerated before it, and without `####` or `\boxed{}` it has no reference answer.

    Raises:
        TypeError: if the value is something else, or a float so large that digits may be lost.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"a reference answer must be a text or a number, not {type(value).__name__}")
    if type(value) is float and abs(value) >= _ROUNDED_FROM:  # not one that keeps its text
        raise TypeError(
            f"the reference answer {value!r} is a number that was rounded to 53 bits. Write it as a text, in quotes"
        )
    text = str(value).strip()
    if "####" in text:
        return text.rpartition("####")[2].strip() or None
    if "\\boxed" in text or "\\fbox" in text:
        return find_auto(text) if is_worked else find_gold(text)
    return None if is_worked else text or None


def are_same_golds(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether two reference answers state the same: one, as an answer, is right if the other is the reference."""
    if not pairs:
        return []
    are_equal = AccuracyReward().verifier.are_equal
    there, back = are_equal(list(pairs)), are_equal([(second, first) for first, second in pairs])
    return [
        first.split() == second.split() or is_right or is_right_back
        for (first, second), is_right, is_right_back in zip(pairs, there, back, strict=True)
    ]
