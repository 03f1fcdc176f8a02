"""Reference answers: read from a value of a data set, and compared with each other."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ..rewards import AccuracyReward
from ..rewards.answers import find_auto, find_gold


_ROUNDED_FROM = 2**53


def read_gold(value: Any, is_worked: bool = False) -> str | None:
    r"""
    The reference answer in a value of the solution column (text, number, or list of one of these); None if there is
    none.

    Of a text with `####` (GSM8K) it is what follows the last one, of one with `\boxed{}` all different boxes, else all
    of it. Of a worked solution (MATH) it is the last box, with those enumerated before it; without a box it has none.
    A TypeError is raised for other types, and for floats so large that digits may be lost.
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
