r"""
The answer rule of the DAPO authors (`math_dapo`), reproduced so that scores can be compared with published ones.

The answer is the last `Answer: ...` within the last 300 characters. It is right if it equals the gold string after the
normalization of Minerva (https://huggingface.co/papers/2206.14858, Appendix D). What the rule misses (`Answer: 540.`,
`**Answer:** 540`, `540.0`, `033` against `33`) is missed here too, on purpose.
"""

import re


TAIL_CHARS = 300
INVALID = "[INVALID]"

_ANSWER = re.compile(r"(?i)Answer\s*:\s*([^\n]+)")

# The order matters: later entries see the result of earlier ones.
_SUBSTITUTIONS = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
# No "ft": the authors' list differs from Minerva's in this one entry.
_REMOVED_WORDS = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units", "\\ldots", "sue", "points"),
    *("feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students"),
    *("childrentickets", "multiples"),
)
_REMOVED_LATEX = (
    *("\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}", "\\mathrm{th}"),
    *("^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots"),
)
_UNWRAPPED = (
    (re.compile(r"(.*?)(\$)(.*?)(\$)(.*)"), r"$\3$"),
    (re.compile(r"(\\text\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\textbf\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\overline\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\boxed\{)(.*)(\})"), r"\2"),
    (re.compile(r"(frac)([^{])(.)"), r"frac{\2}{\3}"),
    (re.compile(r"(sqrt)([^{])"), r"sqrt{\2}"),
)


def find_math_dapo(text: str) -> str | None:
    """The last `Answer: ...` in the last 300 characters of `text`, up to the end of its line; `None` without one."""
    matches = _ANSWER.findall(text[-TAIL_CHARS:])
    return matches[-1] if matches else None


def normalize_math_dapo(answer: str) -> str:
    r"""
    Minerva's normalization of a final answer, in the DAPO authors' variant.

    Example:
    ```python
    >>> normalize_math_dapo(r"x = $\frac12$ degrees")
    '\\frac{1}{2}'
    ```
    """
    answer = answer.split("=")[-1]
    for old, new in _SUBSTITUTIONS:
        answer = answer.replace(old, new)
    for removed in (*_REMOVED_WORDS, *_REMOVED_LATEX):
        answer = answer.replace(removed, "")
    for pattern, replacement in _UNWRAPPED:
        answer = pattern.sub(replacement, answer)
    answer = answer.replace("$", "")
    if answer.replace(",", "").isdigit():
        answer = answer.replace(",", "")
    return answer.strip()


def equals_math_dapo(answer: str, gold: str) -> bool:
    """String equality after normalization, the whole verdict of this rule."""
    return normalize_math_dapo(answer) == normalize_math_dapo(gold)
