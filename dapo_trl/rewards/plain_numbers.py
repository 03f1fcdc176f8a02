r"""
Numbers as models write them: `033`, `540.0`, `1,024`, `-3/4`, `\frac{1}{2}`, `x = 540`, `540 degrees`.

All patterns read ASCII digits only, without exponents: neither `10**10**10` nor `1e999999999` is ever evaluated.
"""

import re
from dataclasses import dataclass
from fractions import Fraction


_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{0,2}(?: [0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
_FRAC = (
    rf"\\frac *(?:\{{ *(?P<top>-? *{_DECIMAL}) *\}}|(?P<top1>[0-9]))"
    rf" *(?:\{{ *(?P<bottom>{_DECIMAL}) *\}}|(?P<bottom1>[0-9]))"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) *[$€£¥]? *(?:(?P<whole>[0-9]+) *{_FRAC.replace('?P<', '?P<mixed_')}|{_FRAC}"
    rf"|(?P<whole2>[0-9]+) (?P<over>[0-9]+) */ *(?P<under>[0-9]+)"
    rf"|(?P<decimal>{_DECIMAL})(?: */ *(?P<divisor>{_DECIMAL}))?)(?![0-9]|[.,/][0-9])"
)
# Names only on the left: `x`, `f(2)`, `P(A)`, `\angle ABC`, `total cost`; never `2x + z`.
_NAME = r"\\?[A-Za-z]{1,20}+(?![A-Za-z])'?(?:_\{?[A-Za-z0-9]{1,9}\}?)?(?:\([A-Za-z0-9,]{1,9}\))?"
_EQUATION = re.compile(rf"^(?:{_NAME} *){{1,5}}=(?!=)")
_SHORT_UNIT = r"(?:cm|mm|km|kg|mg|ml|ft|in|hr|mph)"
_EXPONENT = r"(?:\^\{?[23]\}?)?"
_ATTACHED_UNIT = re.compile(rf"(?:{_SHORT_UNIT}|hrs|min|sec|cents|degrees){_EXPONENT}[.,]?")
_WORD = re.compile(rf"(?:[A-Za-z]{{3,20}}|{_SHORT_UNIT}|of|is|it|as|at|by|on|we|so|an){_EXPONENT}[.,]?")
# Words that change the number before them, hedge, or name a constant or a function.
_NOT_UNIT = re.compile(
    r"(?i)or|and|to|if|when|plus|minus|times|over|mod|million|thousand|hundred|billion|dozen|half|halves|thirds?|quarters?"
    r"|pi|theta|alpha|beta|gamma|delta|lambda|sigma|omega|phi|sin|cos|tan|log|exp|sqrt|infinity|squared|cubed|factorial"
    r"|choose|root|base|power|divided|not|more|less|than|least|most|between|about|except|either"
)
_LONE_NUMBER = re.compile(rf"(?:^|(?<=[ :]))-?[$€£]?{_DECIMAL}[%€]?(?=[ .,!?]|$)")


@dataclass(frozen=True)
class Number:
    """An exact number as written; `is_percent` if a percent sign or word follows it."""

    value: Fraction
    is_percent: bool = False


def read_number(text: str) -> Number | None:
    """
    The number that a canonical text states, whatever its unit or explanation; `None` if it states none, or several.

    Reads `033`, `540.0`, `1,024`, `-3/4`, `2 1/2`, `x = 540`, `540 degrees`, `There are 540 ways`.
    """
    text = _EQUATION.sub("", text, count=1).strip()
    match = _NUMBER.match(text)
    if match:
        rest = text[match.end() :]
        is_percent = bool(re.match(r" ?(?:%|percent\b)", rest))
        rest = re.sub(r"^ ?(?:%|percent\b)", "", rest)
        return Number(_value(match), is_percent) if _is_unit(rest) and _divides(match) else None
    return _number_in_prose(text)


def _value(match: re.Match) -> Fraction:
    """The exact value of a match of `_NUMBER`."""
    groups = {name: value.replace(",", "").replace(" ", "") for name, value in match.groupdict().items() if value}
    if "decimal" in groups:
        value = _fraction(groups["decimal"], groups.get("divisor", "1"))
    elif "over" in groups:
        value = int(groups["whole2"]) + _fraction(groups["over"], groups["under"])
    elif "whole" in groups:
        top, bottom = (
            groups.get("mixed_top") or groups["mixed_top1"],
            groups.get("mixed_bottom") or groups["mixed_bottom1"],
        )
        value = int(groups["whole"]) + _fraction(top, bottom)
    else:
        value = _fraction(groups.get("top") or groups["top1"], groups.get("bottom") or groups["bottom1"])
    return -value if groups.get("sign") == "-" else value


def _fraction(top: str, bottom: str) -> Fraction:
    return Fraction(top.rstrip(".")) / Fraction(bottom.rstrip("."))


def _divides(match: re.Match) -> bool:
    """No denominator is zero."""
    names = ("mixed_bottom", "mixed_bottom1", "bottom", "bottom1", "under", "divisor")
    return all(match[name] is None or re.search(r"[1-9]", match[name]) for name in names)


def _is_unit(rest: str) -> bool:
    """Whether what follows a number leaves it alone: nothing, a unit, or a few words without another number."""
    if not rest.strip(" .,"):
        return True
    if rest[0] not in " .,(":
        return bool(_ATTACHED_UNIT.fullmatch(rest))
    words = re.sub(r"[()]", " ", rest).strip(" .,").replace("/", " ").replace("-", " ").split()
    return len(words) <= 12 and all(
        _WORD.fullmatch(word) and not _NOT_UNIT.fullmatch(word.strip(".,")) for word in words
    )


def _number_in_prose(text: str) -> Number | None:
    """The only number in a sentence of plain words."""
    if not re.fullmatch(r"[A-Za-z0-9 ,.:'!?%$€£-]+", text):
        return None
    found = _LONE_NUMBER.findall(text)
    words = _LONE_NUMBER.sub(" ", text)
    tokens = [word.strip(".,:'!?").lower() for word in words.split()]
    if len(found) != 1 or re.search(r"[0-9]", words) or len(tokens) > 30:
        return None
    if any(_NOT_UNIT.fullmatch(token) or (len(token) == 1 and token != "a") for token in tokens):  # "5 or", "x"
        return None
    digits = found[0].replace(",", "").replace(" ", "").strip("-$€£%")
    value = Fraction(digits.rstrip("."))
    return Number(-value if found[0].startswith("-") else value, found[0].endswith("%"))


def leaves_number_alone(words: str) -> bool:
    """Whether these are plain words that neither change a value beside them nor hedge."""
    plain = re.fullmatch(r"[A-Za-z ,.:'!?()-]*", words) is not None
    return plain and not any(_NOT_UNIT.fullmatch(word.strip(".,:'!?()")) for word in words.split())
