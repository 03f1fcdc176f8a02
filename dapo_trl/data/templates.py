"""Prompt templates: put one around a problem, and take a known one off again."""

import re


DAPO_TEMPLATE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
    "{problem}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
BOXED_TEMPLATE = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
PLAIN_TEMPLATE = "{problem}"

TEMPLATES = {"dapo": DAPO_TEMPLATE, "boxed": BOXED_TEMPLATE, "plain": PLAIN_TEMPLATE}
DEFAULT_TEMPLATE = "dapo"

# Published copies of DAPO-Math-17k differ in the answer form they ask for (`Answer: $Answer (without quotes)` or
# `Answer: \boxed{$Answer}`), in the quotes around `Answer:` and in the white space around the problem.
_DAPO_BEFORE = re.compile(
    r"\s*Solve the following math problem step by step\. The last line of your response should be of the form "
    r"Answer: (?:\$Answer|\\boxed\{\$Answer\})(?: \(without quotes\))? where \$Answer is the answer to the problem\.\s"
)
_DAPO_AFTER = re.compile(r"Remember to put your answer on its own line after [\"']Answer:[\"']\.?\s*\Z")
_BOXED_AFTER = re.compile(r"Please reason step by step, and put your final answer within \\boxed\{\}\.?\s*\Z")
_WRAPPINGS = (
    (_DAPO_BEFORE, "Remember to put your answer", _DAPO_AFTER),
    (re.compile(""), "Please reason step by step", _BOXED_AFTER),
)


def resolve_template(template: str) -> str:
    """The text, with `{problem}` in it, of a template given by name or as text; else a ValueError."""
    if template in TEMPLATES:
        return TEMPLATES[template]
    if "{problem}" not in template:
        raise ValueError(
            f"prompt_template={template!r} is neither the name of a template ({', '.join(TEMPLATES)}) nor a text with "
            "`{problem}` in it. Give one of the names, or write `{problem}` where the problem goes."
        )
    return template


def apply_template(template: str, problem: str) -> str:
    """Puts a template (a name, or a text with `{problem}`) around a problem."""
    # Not `str.format`: templates and problems are full of LaTeX braces.
    return resolve_template(template).replace("{problem}", problem)


def undo_template(text: str) -> str | None:
    """The problem inside a prompt in the `dapo` template (in its published wordings) or the `boxed` one, else None."""
    for before, last_words, after in _WRAPPINGS:
        # The last words are found from the end first: a search for the pattern would try every place in the text.
        start, end = before.match(text), text.rfind(last_words)
        if start and end >= start.end() and after.match(text, end):
            return text[start.end() : end].strip()
    return None
