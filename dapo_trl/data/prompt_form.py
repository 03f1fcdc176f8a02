"""The form in which a model is asked: a prompt (text or messages) with `{problem}` where the problem stands."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from .prompts import Messages, prompt_text
from .templates import resolve_template, undo_template


PromptForm = str | Messages

PLACE = "{problem}"
_NUM_ROWS = 16


def find_form(rows: Iterable[Mapping[str, Any]], prompt_template: str | None = None) -> PromptForm | None:
    """The form of the first prompts, with `prompt_template` if it was put around all problems; None if unknown."""
    forms = [form for row in islice(rows, _NUM_ROWS) if (form := _form_of(row, prompt_template)) is not None]
    return forms[0] if forms and all(form == forms[0] for form in forms) else None


def find_problem(row: Mapping[str, Any], prompt: str) -> Any:
    """What a column `problem` or `question` holds, else what stands in a known template; None if nothing tells."""
    return row.get("problem") or row.get("question") or undo_template(prompt)


def _form_of(row: Mapping[str, Any], prompt_template: str | None) -> PromptForm | None:
    prompt = row["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not all(isinstance(message.get("content"), str) for message in messages):
        return None  # images
    messages = [{"role": message["role"], "content": message["content"]} for message in messages]
    if prompt_template is not None:
        form = [*messages[:-1], {**messages[-1], "content": resolve_template(prompt_template)}]
    else:
        problem = find_problem(row, messages[-1]["content"])
        if not isinstance(problem, str) or prompt_text(messages).count(problem.strip()) != 1:
            return None  # it is not said what the problem is, or it cannot be told from the words around it
        form = [{**message, "content": message["content"].replace(problem.strip(), PLACE)} for message in messages]
    return form[0]["content"] if isinstance(prompt, str) else form


def template_of(form: PromptForm) -> str:
    """The words around the problem, without those of other messages."""
    texts = [form] if isinstance(form, str) else [message["content"] for message in form]
    return next(text for text in texts if PLACE in text)


def with_template(form: PromptForm, prompt_template: str) -> PromptForm:
    """A form with another template around the problem, and the same other messages."""
    text = resolve_template(prompt_template)
    if isinstance(form, str):
        return text
    return [{**message, "content": text} if PLACE in message["content"] else message for message in form]


def ask(form: PromptForm, problem: str) -> str | Messages:
    """The prompt for a problem."""
    if isinstance(form, str):
        return form.replace(PLACE, problem)
    return [{**message, "content": message["content"].replace(PLACE, problem)} for message in form]


def bare_problem(form: PromptForm, text: str) -> str:
    """A text without the words of a form, if it has them already: `1 + 1?` of `Q: 1 + 1?` in `Q: {problem}`."""
    before, _, after = template_of(form).partition(PLACE)
    is_asked = text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
    return text[len(before) : len(text) - len(after)] if is_asked else text
