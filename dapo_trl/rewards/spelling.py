r"""
One spelling for what is written in many, and what leaves a value alone: names before it, units and nouns after it.

Only what is known to leave the value alone is read over: `34 trillion`, `34 below zero` and `5h` are no 34 and no 5.
"""

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache


_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset "}
    | {"²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "°": r"\degree "}
    | {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\x00": " ", "“": "", "”": "", '"': "", "`": "", "’": "'"}
    | {"£": "", "€": "", "¥": ""}
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full width
)
_REWRITES: dict[str, str | Callable[[re.Match], str]] = {
    r"^ *(-?) *\\\$ *([0-9.,]*[0-9])\.?$": r"\1\2 \\text{dollars}",
    r"\\begin\{cases\}([^&]*?)\\end\{cases\}": lambda match: re.sub(r",? *\\\\", ",", match[1]),
    r"([0-9]*)\.([0-9]{0,9})\\(?:overline|bar) *\{([0-9]{1,9})\}": lambda match: _repeating(*match.groups()),
    r" *(?<!\\)\\! *|(?<=,)\{\}": "",
    r" ?\{ ?, ?\}(?=[0-9])": ",",
    # Not the spaces after \\, which ends the row of a matrix.
    r"(?<!\\)\\(?:left|right|displaystyle|limits|[Bb]igg?[lr]?)(?![A-Za-z])|(?<!\\)\\(?:[,;:> ]|q?quad)|~": " ",
    r"\\[dtc]frac(?![A-Za-z])": r"\\frac",
    r"\\frac *([0-9]|\\pi)": r"\\frac{\1}",
    r"(\\frac *\{[^{}]*\}) *([0-9])": r"\1{\2}",
    r"√ *(?:([0-9]+)|\(([^()]*)\))": lambda match: rf"\sqrt{{{match[1] or match[2]}}}",
    r"√": r"\\sqrt ",
    r"(?<![/.0-9])([0-9.]+) *(?:\\cdot|\*) *i(?![A-Za-z])": r"\1i",
    r"(?<![A-Za-z\\])pi(?![A-Za-z])": r"\\pi ",
    r"\\sqrt *([0-9])": r"\\sqrt{\1}",
    r"\\(?:textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|text) *\{\s*([^{}]*?)\s*\}": r" \\text{\1}",
    r"\\(?:f?boxe?d?|underline) *\{([^{}]*)\}": r"\1",
    r"\^ *\{? *(?:\\circ|\\degree) *\}?(?: ?[CF](?![A-Za-z]))?|\\degree(?![A-Za-z])": r" \\text{degrees}",
    r"_ ?\{ ?\\text\{([0-9]+)\} ?\}": r"_{\1}",
    r"\^ ?\{ ?([0-9]+|[A-Za-z]) ?\}(?! ?[A-Za-z.]?[0-9])": r"^\1",
    r"\\(?:neq|not *=)(?![A-Za-z])|!=": r"\\ne ",
    r"\\leq(?:slant)?(?![A-Za-z])|<=": r"\\le ",
    r"\\geq(?:slant)?(?![A-Za-z])|>=": r"\\ge ",
    r"\\lt(?![A-Za-z])": "<",
    r"\\gt(?![A-Za-z])": ">",
    r"\\?%|\\text\{(?:%|per ?cent)\}|\b(?:per ?cent(?:age)?|pct)\b": "%",
    r"(?<!\\)\\?\$|(?<!\\)\\[()\[\]]": " ",
    r"\*\*": "^",
    r"\s+": " ",
    r"(?<=[^\\]\{) | (?=\})": "",
}


def _repeating(whole: str, places: str, digits: str) -> str:
    return str(Fraction(f"0{whole}.{places}0") + Fraction(int(digits), (10 ** len(digits) - 1) * 10 ** len(places)))


_TEXT = re.compile(r" *\\text\{([^{}]*)\} *")
_NUMBER_WORD = (
    r"minus|plus|tens|nots|\w+wards|times|less|versus|exceeds|equals|is|was"
    r"|\w*(?:half|halve|third|quarter|dozen|hundred|thousand|illion|score|percent)s"
    r"|(?:\w*(?:teen|tie|hundred|thousand|illion)|four|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?"
)
# Every unit that is told from others, in its spellings; single letters are read as units within \text{} only.
_UNITS = """mm millimeter millimetre, cm centimeter centimetre, dm decimeter decimetre, m meter metre
, km kilometer kilometre, in inch inche, ft foot feet, yd yard, mi mile, mg milligram, g gm gram, kg kilogram, lb pound
, oz ounce, s sec second, min minute, h hr hour, d day, week, month, yr year, deg degree, rad radian, usd dollar, cent
, euro, rupee, gal gallon, unit"""
_MEASURES = {
    spelling: names[0]
    for names in map(str.split, _UNITS.split(","))
    for name in names
    for spelling in (name, name + "s" * (len(name) > 1))
}
_DERIVED = {
    r"cc|ml|millilit(?:er|re)s?": "cm^3",
    r"l|lit(?:er|re)s?": "dm^3",
    r"mph": "mi/h",
    r"kmp?h|kph": "km/h",
    r"sq(?:uare)?\.? (\w+)|(\w+) squared": r"\1\2^2",
    r"cu(?:bic)?\.? (\w+)|(\w+) cubed": r"\1\2^3",
}
_UNIT = re.compile(
    rf"{'|'.join(_MEASURES)}|(?:cl|mph|kmp?h|kph|cc|rpm|kwh|hz|ohm|lit(?:er|re)|cu|point|way|digit|student|apple|person)s?"
    r"|mls?|square|cubic|sq|people|men|women|children|squared|cubed|[km]?pa|mol|[kmg]?ev|kj|k?cal|bar|atm|psi|[kmg]w"
    r"|[km]v|[kmg]hz|of|total|altogether|each|left|remaining|per|away|old|the|an?|them|all|[acfjklntvw]"
    rf"|(?!(?:{_NUMBER_WORD})$)\w{{2,}}[^s]s"  # any plural
)
_POWER = r"\^ ?(?:-?[0-9]|\{ ?-?[0-9] ?\})"
_TAIL = re.compile(
    r"(?:(?:[ /*(.,-]|\\cdot)*"
    r"(?:\\text\{[^{}]*\}|m/s(?![A-Za-z])|(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z{])|(?<=[/ ])a(?= )|(?<=/)[a-z]\b)"
    rf"(?: ?{_POWER})?[.,)]?)+$"
)
_ORDINAL = re.compile(r"(?<=[0-9]) ?\^? ?\{? ?(?:\\text\{)?(?:st|nd|rd|th)\}* ?\}?$")
_ATOM = (
    r"(?:m ?)?(?:\\(?:angle|triangle|overline|vec|sin|cos|tan|cot|sec|csc|log|ln)(?![A-Za-z]) *)?\{? ?"
    r"(?:[A-Za-z](?: ?\+ ?[a-z]){0,2}|[A-Z]{2,4}|\\(?!frac|text|sqrt)[A-Za-z]+|\[[A-Z]{3,6}\]"
    r"|(?:(?:\\text\{[^{}]*\}|[A-Za-z]{4,}|of|the|in) *)+)"
    r" ?\}?'*(?:_ ?(?:\{[^{}]*\}|\w))?(?:\^\{-1\})?'*(?: ?\([^()=<>]{1,20}\))?"
)
_NAME = re.compile(
    rf"{_ATOM}|\| ?[A-Z]{{2}} ?\||\( ?[a-z](?: ?, ?[a-z])+ ?\)|{_ATOM} ?: ?{_ATOM}"
    rf"|\\frac\{{[A-Z]{{2,3}}\}}\{{[A-Z]{{2,3}}\}}"
)
_EQUALS = re.compile(r"(?<![<>!\\])=|\\(?:in|approx)(?![A-Za-z])")
_SEPARATOR = re.compile(r"[,;]|\\text\{ ?(?:and|or) ?\}|(?<=[ }])(?:and|or)(?= )")


@lru_cache(maxsize=10_000)
def neutral(text: str) -> str:
    r"""One spelling: `\frac` for `\dfrac`, `\text{cm}` for `\mbox{ cm}`, `-` for `−`, no `$`, single spaces."""
    text = text.translate(_CHARACTERS)
    slashes = re.findall(r"\\+", text)
    if all(len(run) % 2 == 0 for run in slashes) and re.search(r"\\[A-Za-z]{2}", text):  # escaped twice
        text = text.replace(r"\\", "\\")
    for pattern, replacement in _REWRITES.items():
        text = re.sub(pattern, replacement, text)
    return text.strip().rstrip(".;:").strip()


def unwrapped(text: str) -> str:
    r"""A neutral text without `\text{}` around its words."""
    return _TEXT.sub(r" \1 ", text).strip()


def without_spaces(text: str) -> str:
    """Drop spaces, except between digits and between letters: `1 2` is not `12`."""
    return re.sub(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])", "", text)


def in_radians(text: str) -> str:
    r"""A neutral text with `\sin(\pi/6)` for `\sin 30^\circ`; degrees that no function is taken of are a unit."""
    if not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        return text
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?) *\\text\{degrees\}", text)  # every other one is an angle
    radians = [Fraction(part) / 180 for part in parts[1::2]]
    parts[1::2] = [rf"(\frac{{{angle.numerator}\pi}}{{{angle.denominator}}})" for angle in radians]
    return "".join(parts)


def split_unit(text: str) -> tuple[str, str]:
    """A neutral text without the unit, noun or ordinal ending after its value; and the unit, see [`_measure`]."""
    text = _ORDINAL.sub("", text)
    tail = _TAIL.search(text)
    if not tail or not tail.start():
        return text, ""
    unit = unwrapped(tail[0]).lower().replace(r"\cdot", " ")
    words = re.findall(r"[^\W_]+", re.sub(rf"{_POWER}|(?<=[a-z])\^?[0-9]", " ", unit))
    is_unit = all(map(_UNIT.fullmatch, words)) and words[:1] not in (["squared"], ["cubed"])
    return (text[: tail.start()].strip(), _measure(unit)) if is_unit else (text, "")


def _measure(unit: str) -> str:
    r"""`m^1 s^-2` for `m/s^2` or `meters per second squared`; empty for `5 units`, `5 per day`, and unknown words."""
    for pattern, replacement in _DERIVED.items():
        unit = re.sub(rf"\b(?:{pattern})\b", replacement, unit)
    powers: Counter[str] = Counter()
    for slash, word, power in re.findall(r"(?:(/|\bper\b)[ (]*)?([a-z]+)(?: ?\^? ?\{? ?(-?[0-9]))?", unit):
        if word not in _MEASURES:
            return ""
        powers[_MEASURES[word]] += int(power or 1) * (-1 if slash else 1)
    is_known = powers != {"unit": 1} and max(powers.values(), default=0) > 0
    return " ".join(f"{name}^{power}" for name, power in sorted(powers.items(), key=lambda item: -item[1]) if is_known)


def differ_in_unit(one: str, other: str) -> bool:
    """Whether two stated units contradict each other; `square units` may stand for any of an area."""
    if "unit" in one + other:
        one, other = (re.sub(r"\b(?!deg|rad)[a-z]+(?=\^)", "unit", unit) for unit in (one, other))
    return bool(one and other) and one != other


def split_names(text: str) -> tuple[str, str]:
    r"""
    Names and values of a neutral `f(2) = 5`, `x \in [0, 1]`, `m + n = 34`, `x = 1 or x = 2`, without approximations.
    Of `x = 1, y = 2; x = 3, y = 4` the value is `(1, 2), (3, 4)`. The left side of `xy = 6` is no name.
    """
    text = re.sub(r"^\\approx(?![A-Za-z]) ?", "", text)
    texts = _SEPARATOR.split(text)
    parts = [_EQUALS.split(part) for part in (texts if len(_EQUALS.findall(text)) == len(texts) else [text])]
    if not all(len(part) == 2 and _NAME.fullmatch(part[0].strip()) for part in parts):
        value = text.rpartition("\\approx")[0].strip()
        return split_names(value) if value else ("", text)
    names = list(dict.fromkeys(re.sub("[ (){}|]", "", name) for name, _ in parts))
    values = [value.strip() for _, value in parts]
    first = names[0].partition("_")[0]
    if all(name.partition("_")[0] == first for name in names):  # x_1 and x_2 are roots
        return names[0] if len(names) == 1 else first, ", ".join(values)
    groups = (values[at : at + len(names)] for at in range(0, len(values), len(names)))
    return ",".join(names), ", ".join(f"({', '.join(group)})" for group in groups)
