r"""
Is an answer equal to the gold? The rules that decide in microseconds; the rest (`None`) is left to math-verify. A gold
that is a number is decided here: an answer that is none (`2 + 2`, `\sqrt{16}`) still has to be computed.
"""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from .outcome import Outcome, Reason
from .spelling import differ_in_unit, in_radians, neutral, split_names, split_unit, unwrapped, without_spaces


LENGTH_SLACK = 300  # characters; rambling costs math-verify seconds, and is no other way to write the gold
RIGHT, WRONG = Outcome(True, Reason.RULE), Outcome(False, Reason.RULE)
UNFINISHED = Outcome(False, Reason.UNFINISHED)

# math-verify rounds decimals to as many places. A number with fewer digits is exact as written: 0.0000001 is not 0.
ROUNDED_DIGITS = 6

_DIGITS = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{0,2}(?: [0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) *(?:(?:(?P<whole>[0-9]+) +)?(?P<top>-? *{_DECIMAL}) */ *(?P<bottom>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?: *(?:\\times|\\cdot) *10 *\^ *\{{? *(?P<power>[-+]?[0-9]{{1,3}}) *\}}?)?"
    r"(?:_\{?(?P<base>[0-9]{1,3})\}?)?) *(?P<percent>%?)"
)
_INTEGER = re.compile(r"-?[0-9]{1,1000}")
_OPTION = re.compile(
    r"(?i:(?:option|choice) )?(?:(?:\(([A-J])\)|([A-J])(?:[):]|\. ))(?! *(?:or|and|[,;/]|\(?[A-J]\b)) *(.*)|([A-J]))"
)
_TIME = re.compile(r"(?i)([0-9]{1,2})(?::([0-5][0-9]))?(?::00)? ?([ap])\.? ?m\b\.?|([0-9]{1,2}):([0-5][0-9])(?::00)?")
_WORDS, _TOKEN = re.compile(r"[A-Za-z0-9 ,.'&()-]+"), re.compile(r"\b(?!(?:and|or)\b)[A-Za-z0-9]+")


@dataclass(frozen=True)
class Number:
    """An exact number as written."""

    value: Fraction  # what stands there: 50 for `50%`, the digits alone for `40_9`
    is_lowest: bool = True  # nothing is left to compute: no fraction to reduce, no improper mixed number
    places: int | None = 0  # decimal places; None for a fraction
    unit: str = ""  # or `%`, `base 9`


def read_number(text: str) -> Number | None:
    """The number that a neutral text is; of digits and short exponents only: `10**10**10` is never evaluated."""
    match = _NUMBER.fullmatch(re.sub(r"\\frac *\{([^{}]*)\} *\{([^{}]*)\}", r" \1/\2 ", text).strip())
    if match is None or len(text) > 1000:
        return None
    part = {name: re.sub("[, ]", "", value).rstrip(".") for name, value in match.groupdict().items() if value}
    unit = part.get("percent") or (f"base {part['base']}" if "base" in part else "")
    sign = -1 if part.get("sign") == "-" else 1
    if "top" in part:
        whole, over, under = (Fraction(part.get(name, 0)) for name in ("whole", "top", "bottom"))
        if not under:
            return None
        is_whole = over.denominator == under.denominator == 1
        is_lowest = is_whole and under > 1 and math.gcd(int(over), int(under)) == 1 and (over < under or not whole)
        return Number(sign * (whole + over / under), is_lowest, None, unit)
    value, power = Fraction(part["decimal"]), int(part.get("power", 0))
    places = max(0, len(part["decimal"].partition(".")[2]) - power)
    is_lowest = "power" not in part or 1 <= value < 10
    return Number(sign * value * Fraction(10) ** power, is_lowest, places, unit)


@dataclass(frozen=True)
class Reading:
    """What an answer or a gold states, in neutral spelling."""

    whole: str  # all of it, but for the letter of an option
    text: str  # its value alone, without name and unit
    name: str  # what stands left of `=`; empty if that is no name
    unit: str = ""  # `cm^2`, `%`, `base 9`; empty if it is none that is known
    number: Number | None = None  # the value, if it is a plain number
    words: str | None = None  # letters and digits of a value without symbols; `16:30` of a time of day
    is_text: bool = False  # the value is words, such as `Evelyn`, `June 20`, `no solution`, or a time of day
    option: str = ""  # the letter of an option
    is_letter: bool = False  # there is nothing but that letter

    @property
    def is_plain(self) -> bool:
        """Whether everything is decided by the cheap rules if this is the gold: then it can be read."""
        is_exact = self.number is not None and self.number.is_lowest and (self.number.places or 0) < ROUNDED_DIGITS
        return self.is_text or is_exact


@lru_cache(maxsize=10_000)
def read(text: str) -> Reading:
    """Read a text as the letter of an option and a number, a time, words, or what math-verify has to read."""
    whole = neutral(text)
    option = _OPTION.fullmatch(re.sub(r"^\\text\{([^{}]*)\}|^\(\\text\{([A-J])\}\)", r"\1\2", whole))
    letter, rest = (option[1] or option[2] or option[4], option[3] or "") if option else ("", "")
    whole = neutral(rest) if rest else whole
    name, value = split_names(whole)
    reading = Reading(whole, value, name, option=letter, is_letter=bool(letter and not rest))
    if time := _TIME.fullmatch(unwrapped(value)):
        hour, half = int(time[1] or time[4]), (time[3] or "").lower()
        hour = hour % 12 + 12 * (half == "p") if half else hour
        return replace(reading, words=f"{hour}:{time[2] or time[5] or '00'}", is_text=True)
    value = in_radians(re.sub(r"^\\\{ ?[a-z] ?(?:\||:|\\mid) ?(.*)\\\}$", r"\1", value))  # {x | x > 2}
    value, unit = split_unit(re.sub(r"^\\text\{([0-9][^{}]*)\}$", r"\1", value))
    plain = unwrapped(value)
    bare = re.sub(r"^(?i:negative|minus) ", "-", plain)
    number = read_number(re.sub(r"^(?:\\?\{|\() *(.*?) *(?:\\?\}|\))$", r"\1", bare))
    reading = replace(reading, text=value, number=number, unit=(number and number.unit) or unit)
    if number is not None or not _WORDS.fullmatch(plain):
        return reading
    # The option C is not the variable c.
    tokens = [token if len(token) == 1 else token.lower() for token in _TOKEN.findall(plain)]
    is_prose = plain[0].isalpha() and all(token.isdigit() or (token.isalpha() and len(token) > 1) for token in tokens)
    is_prose = is_prose and max(map(len, tokens), default=0) > 2
    is_text = plain.isalpha() or is_prose or ("\\text" in value and any(map(str.isalpha, tokens)))
    words = "".join(sorted(tokens) if {len(token) for token in tokens} == {1} else tokens)
    return replace(reading, words=words, is_text=is_text and not (len(plain) == 1 and plain.islower()))


def compare(answer: str, gold: str) -> Outcome | None:
    """Compare a final answer with the reference, both without anything around; `None` if it takes algebra to tell."""
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):  # most golds and most answers, so not the long way
        return RIGHT if int(answer) == int(gold) else WRONG
    stated, wanted = read(answer), read(gold)
    if stated.option and wanted.option and (stated.option != wanted.option or stated.is_letter or wanted.is_letter):
        return RIGHT if stated.option == wanted.option else WRONG
    return _compare(stated, wanted)


def _compare(answer: Reading, gold: Reading) -> Outcome | None:
    names = [sorted(one.name.split(",")) for one in (answer, gold) if one.name]
    if (len(names) == 2 and names[0] != names[1]) or differ_in_unit(answer.unit, gold.unit):
        return WRONG
    if gold.is_text:
        return RIGHT if answer.words == gold.words else WRONG
    if gold.number is not None and answer.number is not None:
        is_finished = answer.number.is_lowest or not gold.number.is_lowest
        return (RIGHT if is_finished else UNFINISHED) if equal_numbers(answer.number, gold.number) else WRONG
    if gold.is_plain:
        return _compare_calculation(answer, gold)
    if without_spaces(unwrapped(answer.text)) == without_spaces(unwrapped(gold.text)):
        return RIGHT
    return WRONG if len(answer.whole) > LENGTH_SLACK + 4 * len(gold.whole) else None


def _compare_calculation(answer: Reading, gold: Reading) -> Outcome | None:
    """`2 + 3 = 5` states the number 5, if math-verify agrees that both sides are 5."""
    left, _, last = answer.whole.rpartition("=")
    number = read_number(split_unit(last.strip())[0])
    is_calculation = left and not re.search(r"(?<![\\A-Za-z])[A-Za-z]", left)
    if is_calculation and number and gold.number and number.is_lowest and equal_numbers(number, gold.number):
        return None
    return WRONG if answer.is_text else UNFINISHED


def equal_numbers(answer: Number, gold: Number) -> bool:
    """Whether they are the same number: exactly, or one is the other rounded to six digits and places or more."""
    if answer.unit and gold.unit and answer.unit != gold.unit:
        return False
    if answer.value == gold.value or _is_rounded(answer, gold) or _is_rounded(gold, answer):
        return True
    percent, plain = (answer, gold) if answer.unit else (gold, answer)
    return percent.unit == "%" and not plain.unit and percent.value == 100 * plain.value


def _is_rounded(rounded: Number, exact: Number) -> bool:
    places = rounded.places or 0
    if places < ROUNDED_DIGITS or (exact.places is not None and exact.places <= places):
        return False
    digits = abs(rounded.value * 10**places)
    return digits >= 10 ** (ROUNDED_DIGITS - 1) and round(exact.value, places) == rounded.value
