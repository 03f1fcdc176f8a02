"""Problems without the ways in which they can be written: LaTeX or Unicode, spaces, delimiters, case, punctuation."""

import html
import re
import unicodedata
from dataclasses import dataclass


_SYMBOLS = {"−": "-", "‐": "-", "‒": "-", "–": "-", "—": " ", "⩽": "≤", "⩾": "≥", "°": " degrees ", "∘": " degrees "}
_SYMBOLS |= {"√": " sqrt ", "∞": " infty ", "∠": " angle ", "△": " triangle ", "∆": " delta ", "≠": " ne "}
_SYMBOLS |= {"∈": " in ", "∪": " cup ", "∩": " cap ", "∑": " sum ", "∏": " prod ", "∫": " int ", "→": " to "}
_SYMBOLS |= {"≡": " equiv ", "≈": " approx ", "ℓ": " ell ", "⌊": " lfloor ", "⌋": " rfloor ", "⌈": " lceil "}
_SYMBOLS |= {"⌉": " rceil ", "⊥": " perp ", "∥": " parallel ", "⊂": " subset ", "∅": " emptyset "}
_SYMBOLS |= {"∗": "*", "⋅": "*", "·": "*", "×": "*"}
_TABLE = str.maketrans(_SYMBOLS)

# What commands stand for, where it is not their name: nothing if they say how something looks, or divide.
_LOOKS = (
    "left|right|middle|bigl|bigr|biggl|biggr|bigg|big|displaystyle|textstyle|limits|nolimits|quad|qquad|thinspace|"
    "enspace|phantom|textbf|textit|textrm|textsf|texttt|textnormal|textsc|text|emph|underline|underbrace|mbox|hbox|"
    "mathrm|mathbf|mathit|mathbb|mathcal|mathsf|mathop|boldsymbol|bold|operatorname|overline|overrightarrow|vec|bar|"
    "widehat|hat|ensuremath|boxed|fbox|item|noindent|newline|centering|hline|frac|dfrac|tfrac|cfrac|div|cdots|ldots|"
    "dots|dotsb|dotsc|dotsm|over|lvert|rvert|vert|mid|lbrace|rbrace|langle|rangle"
)
_NAMES = {"leq": "≤", "le": "≤", "leqslant": "≤", "geq": "≥", "ge": "≥", "geqslant": "≥", "lt": "<", "gt": ">"}
_NAMES |= {"neq": " ne ", "dbinom": " binom ", "tbinom": " binom ", "choose": " binom ", "rightarrow": " to "}
_NAMES |= {"circ": " degrees ", "degree": " degrees ", "varphi": " phi ", "varepsilon": " epsilon "}
_NAMES |= {"parallel": " parallel ", "cdot": "*", "times": "*"}
_NAMES |= dict.fromkeys(_LOOKS.split("|"), " ")
# Also where a letter follows at once: copies without spaces have `\cdotx`.
_KNOWN = "|".join(sorted(_NAMES, key=len, reverse=True))
_COMMAND = re.compile(rf"\\(?:(?P<known>{_KNOWN})|(?P<name>[a-z]+)|(?P<sign>[^\w*]))")
_ARGUMENT = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}(?:\s*\{[lcr|\s]*\})?|\\[hv]space\*?\s*\{[^{}]*\}")
_GREEK = re.compile("[\u0391-\u03c9\u03d1-\u03f5]")
_RAISED = re.compile("(?=[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209c\u2150-\u215e])")
_ELEMENT = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<letter>[^\W\d_])|(?P<sign>[-+*<>≤≥])")

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("<=", "≤"),
        (">=", "≥"),
        ("!=", " ne "),
        (r"\*\*|-{2,}|\.{2,}", " "),  # a power, a dash, an omission
        (r"(?<!\d)0(?=\.\d)", ""),  # 0.5
        (r"(\.\d*?)0+(?!\d)", r"\1"),  # 2.50
    )
)


@dataclass(frozen=True)
class Spelling:
    """
    A problem as elements: letters, and runs of digits. Digits are a run as long as no letter, sign, end of a sentence
    or sign of multiplication stands between them, so that `1,000` is `1000`, but also `1/2` and `12` are the same.

    Attributes:
        text (`str`): a character for each element, the letter in lower case, or `#` for digits.
        values (`list[str]`): each element with its digits and the sign before it: `a`, `+a`, `12`, `-34`.
        gaps (`list[str]`): what stands before each element, and after the last one.
    """

    text: str
    values: list[str]
    gaps: list[str]


def spell(problem: str) -> Spelling:
    r"""
    Takes a problem apart. Problems that differ only in LaTeX (`\dfrac`, `\left`, `x_{1}`), Unicode (`≤`, `²`, `π`),
    delimiters, spaces, case or punctuation have the same elements.

    >>> spell(r"Is $\dfrac{1}{2}x \le -3$?").values == spell("is 1/2 x ≤ −3").values
    True
    """
    text, values, gaps = [], [], []
    neutral, end, sign, is_number = _neutral(problem), 0, "", False
    for match in _ELEMENT.finditer(neutral):
        gap = neutral[end : match.start()]
        if match["sign"]:
            sign += match["sign"]
            continue
        end = match.end()
        if not (is_number and match["number"]):
            sign = sign.replace("*", "")  # elsewhere it can be left out
        if match["letter"]:
            text.append(match["letter"])
            values.append(sign.replace("-", "") + match["letter"])  # it may be a hyphen
            gaps.append(gap)
        elif is_number and not sign and not re.search(r"[].?!:;]", gap):
            values[-1] += match["number"]
        else:
            text.append("#")
            values.append(sign + match["number"])
            gaps.append(gap)
        sign, is_number = "", not match["letter"]
    return Spelling("".join(text), values, [*gaps, neutral[end:]])


def _neutral(problem: str) -> str:
    text = _RAISED.sub(" ", html.unescape(problem).translate(_TABLE))
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
        text = _GREEK.sub(_greek_name, text)
    text = _COMMAND.sub(_meaning, _ARGUMENT.sub(" ", text.lower()))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def _greek_name(letter: re.Match) -> str:
    name = unicodedata.name(letter[0], "").split(" ")[-1].lower()
    return f" {'lambda' if name == 'lamda' else name} "


def _meaning(command: re.Match) -> str:
    if command["known"]:
        return _NAMES[command["known"]]
    if command["name"]:
        return f" {command['name']} "
    return "$" if command["sign"] in "()[]" else " "
