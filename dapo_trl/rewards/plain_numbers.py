r"""
Numbers as they are written: `033`, `540.0`, `1,024`, `-3/4`, `2\frac{1}{2}`, `50%`, `3.0 \times 10^{8}`, `40_9`.

All patterns read ASCII digits only and short exponents: neither `10**10**10` nor `1e999999999` is ever evaluated.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction


# math-verify rounds decimals to as many places. A number with fewer digits is exact as written: 0.0000001 is not 0.
ROUNDED_DIGITS = 6

_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{0,2}(?: [0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) *(?:(?:(?P<whole>[0-9]+) +)?(?P<top>-? *{_DECIMAL}) */ *(?P<bottom>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?: *(?:\\times|\\cdot) *10 *\^ *\{{? *(?P<power>[-+]?[0-9]{{1,3}}) *\}}?)?"
    r"(?:_\{?(?P<base>[0-9]{1,3})\}?)?) *(?P<percent>%?)"
)


@dataclass(frozen=True)
class Number:
    """An exact number as written."""

    value: Fraction  # what stands there: 50 for `50%`, the digits alone for `40_9`
    is_lowest: bool = True  # nothing is left to compute: no fraction to reduce, no improper mixed number
    places: int | None = 0  # decimal places; None for a fraction
    is_percent: bool = False
    base: str | None = None  # of the notation, if it is given

    @property
    def notation(self) -> str:
        """What is stated in place of a unit: `%`, `base 9`, or nothing."""
        return "%" if self.is_percent else f"base {self.base}" if self.base else ""


def read_number(text: str) -> Number | None:
    """The number that is the whole of a neutral text."""
    match = _NUMBER.fullmatch(re.sub(r"\\frac *\{([^{}]*)\} *\{([^{}]*)\}", r" \1/\2 ", text).strip())
    if match is None or len(text) > 1000:
        return None
    part = {name: re.sub("[, ]", "", value).rstrip(".") for name, value in match.groupdict().items() if value}
    sign = -1 if part.get("sign") == "-" else 1
    if "top" in part:
        whole, over, under = (Fraction(part.get(name, 0)) for name in ("whole", "top", "bottom"))
        if not under:
            return None
        is_whole = over.denominator == under.denominator == 1
        is_lowest = is_whole and under > 1 and math.gcd(int(over), int(under)) == 1 and (over < under or not whole)
        return Number(sign * (whole + over / under), is_lowest, None, "percent" in part)
    value, power = Fraction(part["decimal"]), int(part.get("power", 0))
    places = max(0, len(part["decimal"].partition(".")[2]) - power)
    is_lowest = "power" not in part or 1 <= value < 10
    return Number(sign * value * Fraction(10) ** power, is_lowest, places, "percent" in part, part.get("base"))


def equal_numbers(answer: Number, gold: Number) -> bool:
    """Whether they are the same number: exactly, or one is the other rounded to six digits and places or more."""
    if answer.base and gold.base and answer.base != gold.base:
        return False
    if answer.value == gold.value or _is_rounded(answer, gold) or _is_rounded(gold, answer):
        return True
    percent, plain = (answer, gold) if answer.is_percent else (gold, answer)
    return percent.is_percent and not plain.is_percent and percent.value == 100 * plain.value


def _is_rounded(rounded: Number, exact: Number) -> bool:
    places = rounded.places or 0
    if places < ROUNDED_DIGITS or (exact.places is not None and exact.places <= places):
        return False
    digits = abs(rounded.value * 10**places)
    return digits >= 10 ** (ROUNDED_DIGITS - 1) and round(exact.value, places) == rounded.value
