r"""
Is an answer equal to the gold? The cheap rules: the same text, or the same number.

They decide what needs no algebra, in microseconds, and leave the rest (`None`) to math-verify.
"""

import re
from fractions import Fraction

from .canonical import canonical
from .plain_numbers import Number, read_number


# math-verify rounds decimals to 6 places: what differs by less than this is left to it.
CLOSE = Fraction(1, 10**5)
# Rambling costs math-verify seconds, and is no other way to write the gold.
LENGTH_SLACK = 300  # characters

_INTEGER = re.compile(r"-?[0-9]{1,1000}")


def compare(answer: str, gold: str) -> bool | None:
    """
    Compare by the cheap rules.

    Args:
        answer (`str`): the final answer of a completion, without anything around it.
        gold (`str`): the reference answer.

    Returns:
        `bool` or `None`: whether they are equal; `None` if that takes algebra.
    """
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):  # most golds and most answers, so not the long way
        return int(answer) == int(gold)
    answer, gold = canonical(answer), canonical(gold)
    if _without_spaces(answer) == _without_spaces(gold):
        return True
    if _is_text(gold) and _is_text(answer):
        return _bare_text(answer) == _bare_text(gold)
    gold_number = read_number(gold)
    answer_number = read_number(answer) if gold_number else None
    if gold_number is not None and answer_number is not None:
        return _compare_numbers(answer_number, gold_number)
    return False if len(answer) > LENGTH_SLACK + 4 * len(gold) else None


def _without_spaces(text: str) -> str:
    """Drop spaces, except between digits: `1 2` is not `12`."""
    return re.sub(r"(?<![0-9]) | (?![0-9])", "", text)


def _is_text(text: str) -> bool:
    """Words only, no product of variables: `Evelyn`, `no solution`; or a choice such as `C`, `(C)`."""
    if re.fullmatch(r"\(?[A-Z]\)?", text):
        return True
    words = text.split(" ")
    return (
        all(re.fullmatch(r"[A-Za-z]{2,}(?:['-][A-Za-z]+)?", word) for word in words) and len(max(words, key=len)) > 3
    )


def _bare_text(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _compare_numbers(answer: Number, gold: Number) -> bool | None:
    if answer.value == gold.value:
        return True
    if answer.is_percent != gold.is_percent:
        percent, plain = (answer, gold) if answer.is_percent else (gold, answer)
        return percent.value == 100 * plain.value
    return False if abs(answer.value - gold.value) > CLOSE else None
