"""Texts made comparable: problems for finding duplicates, golds for finding conflicts, and kinds of golds."""

import hashlib
import re
from decimal import Decimal

from ..rewards.plain_numbers import read_number
from ..rewards.spelling import neutral


_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d*)?|[+-]?\.\d+", re.ASCII)


def normalize_space(text: str) -> str:
    """Every run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def text_key(text: str) -> bytes:
    """16 bytes that stand for a text up to its white space (a collision among 10^9 texts: odds of 1 in 10^20)."""
    return hashlib.blake2b(normalize_space(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def canonical_gold(gold: str) -> str:
    r"""
    A gold answer in the form in which two golds are compared: white space, the spelling of LaTeX, and the writing of
    numbers aside.

    >>> canonical_gold("$1,024.0$"), canonical_gold("033"), canonical_gold(r"\dfrac12"), canonical_gold("x  + 1")
    ('1024', '33', '1/2', 'x + 1')
    """
    text = neutral(gold)
    number = read_number(text) if len(text) <= 100 else None
    if number is None or number.is_percent or number.base:
        return text
    if number.places is None:
        return str(number.value)
    decimal = Decimal(f"{int(number.value * 10**number.places)}e-{number.places}")  # of all digits, unlike a float
    return f"{decimal:f}".rstrip("0").rstrip(".") if number.places else f"{decimal:f}"


def answer_type(gold: str) -> str:
    """The kind of a gold answer: `integer`, `decimal`, `fraction`, `choice`, `text` or `expression`."""
    text = gold.strip().strip("$").strip()
    if _NUMBER.fullmatch(text):
        return "decimal" if "." in text else "integer"
    if re.fullmatch(r"[+-]?(\\[dt]?frac\s*(\{\d+\}|\d)\s*(\{\d+\}|\d)|\d+\s*/\s*\d+)", text, re.ASCII):
        return "fraction"
    if re.fullmatch(r"(\\text\{)?\(?[A-Z]\)?\}?", text):
        return "choice"
    if re.fullmatch(r"\\text\{[^{}]*\}|[A-Za-z][a-z]+([ -][A-Za-z]+)*", text):
        return "text"
    return "expression"
