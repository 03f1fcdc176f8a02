"""One spelling for what is written in many: the same answer in LaTeX, in Unicode and in plain text."""

import re
from functools import lru_cache


_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset "}
    | {"²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "°": r"\degree "}
    | {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\x00": " ", "“": "", "”": "", '"': "", "`": "", "’": "'"}
    | {"£": "", "€": "", "¥": ""}
    | _FULL_WIDTH
)


def _braced(text: str) -> str:
    return text if text.startswith("{") else f"{{{text}}}"


_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r" *(?<!\\)\\! *|(?<=,)\{\}", ""),
        (r" ?\{ ?, ?\}(?=[0-9])", ","),
        # Not the spaces after \\, which ends the row of a matrix.
        (r"(?<!\\)\\(?:left|right|displaystyle|limits|[Bb]igg?[lr]?)(?![A-Za-z])|(?<!\\)\\(?:[,;:> ]|q?quad)|~", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (
            r"\\frac *(\{[^{}]*\}|[0-9]|\\pi) *(\{[^{}]*\}|[0-9])",
            lambda match: rf"\frac{_braced(match[1])}{_braced(match[2])}",
        ),
        (r"√ *(?:([0-9]+)|\(([^()]*)\))", lambda match: rf"\sqrt{{{match[1] or match[2]}}}"),
        (r"√", r"\\sqrt "),
        (r"(?<![/.0-9])([0-9.]+) *(?:\\cdot|\*) *i(?![A-Za-z])", r"\1i"),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (r"\\sqrt *([0-9])", r"\\sqrt{\1}"),
        (r"\\(?:textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|text) *\{\s*([^{}]*?)\s*\}", r" \\text{\1}"),
        (r"\\(?:f?boxe?d?|underline) *\{([^{}]*)\}", r"\1"),
        (r"\^ *\{? *(?:\\circ|\\degree) *\}?(?: ?[CF](?![A-Za-z]))?|\\degree(?![A-Za-z])", r" \\text{degrees}"),
        (r"\\(?:neq|not *=)(?![A-Za-z])|!=", r"\\ne "),
        (r"\\leq(?:slant)?(?![A-Za-z])|<=", r"\\le "),
        (r"\\geq(?:slant)?(?![A-Za-z])|>=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\?%|\\text\{(?:%|per ?cent)\}|\b(?:per ?cent(?:age)?|pct)\b", "%"),
        (r"(?<!\\)\\?\$|(?<!\\)\\[()\[\]]", " "),
        (r"\*\*", "^"),
        (r"\s+", " "),
        (r"(?<=[^\\]\{) | (?=\})", ""),
    )
)
_TEXT = re.compile(r" *\\text\{([^{}]*)\} *")


@lru_cache(maxsize=10_000)
def neutral(text: str) -> str:
    r"""
    Rewrite to one spelling: `\frac` for `\dfrac`, `\text{cm}` for `\mbox{ cm}`, `-` for `−`, no `$`, single spaces.

    >>> neutral(r"$\dfrac{1{,}024}{ 3 }\,\mbox{ cm}$.")
    '\\frac{1,024}{3} \\text{cm}'
    """
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".;:").strip()


def unwrapped(text: str) -> str:
    r"""A neutral text without `\text{}` around its words."""
    return _TEXT.sub(r" \1 ", text).strip()


def without_spaces(text: str) -> str:
    """Drop spaces, except between digits and between letters: `1 2` is not `12`."""
    return re.sub(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])", "", text)
