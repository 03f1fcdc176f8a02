"""One spelling for what is written in many: the same answer in LaTeX, in Unicode and in plain text."""

import re

from .boxes import has_content


_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "√": r"\sqrt "}
    | {"²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"}
    | {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\x00": " ", "“": "", "”": "", '"': "", "`": ""}
    | {chr(code): chr(ascii_code) for code, ascii_code in _FULL_WIDTH.items()}
)
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\! *|\{,\}(?=[0-9])|(?<=,)\{\}", lambda match: "," if match[0] == "{,}" else ""),
        # Not the spaces after \\, which ends the row of a matrix.
        (r"(?<!\\)\\(?:left|right|displaystyle|limits|quad|qquad)(?![A-Za-z])|(?<!\\)\\[,;:> ]|~", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|operatorname) *\{([^{}]*)\}", r" \1 "),
        (r"\\f?boxe?d? *\{([^{}]*)\}", r"\1"),
        (r"\^ *\{? *(?:\\circ|\\degree) *\}?|\\degree(?![A-Za-z])|°", " degrees"),
        (r"\\(?:neq|not *=)(?![A-Za-z])|!=|\\not *=", r"\\ne "),
        (r"\\leq(?:slant)?(?![A-Za-z])|<=", r"\\le "),
        (r"\\geq(?:slant)?(?![A-Za-z])|>=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\?%", "%"),
        (r"(?<!\\)\\[$£€]|\$", " "),
        (r"(?<!\\)\\[()\[\]]", " "),
        (r"\*\*", "^"),
        (r"\s+", " "),
        (r"(?<=[^\\]\{) | (?=\})", ""),
    )
)


def canonical(text: str) -> str:
    r"""
    Rewrite to one spelling: `\frac` for `\dfrac`, `cm` for `\text{cm}`, `-` for `−`, no `$`, single spaces.

    Example:
    ```python
    >>> canonical(r"$\dfrac{1{,}024}{ 3 }\,\text{cm}$.")
    '\\frac{1,024}{3} cm'
    ```
    """
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".;:").strip()


def is_readable(gold: str) -> bool:
    """Whether a gold can be compared with anything: it has a letter or digit or symbol, and its braces close."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", gold):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and has_content(gold)
