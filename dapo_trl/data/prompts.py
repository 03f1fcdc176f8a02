"""Prompts as texts and as lists of messages, and the form in which a model is asked."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from .templates import resolve_template, undo_template


Messages = list[dict[str, str]]

PromptForm = str | Messages
"""A prompt with `{problem}` where the problem stands: the form in which a model is asked."""

PLACE = "{problem}"
_NUM_ROWS = 16


def check_messages(value: Any) -> Messages:
    """The role and the content of each message of a prompt; a TypeError or ValueError if it is no list of messages."""
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise TypeError(f"a prompt must be a text or a list of messages, not {type(value).__name__}")
    if not value:
        raise ValueError("the prompt is an empty list of messages")
    messages = [{key: message.get(key) for key in ("role", "content")} for message in value]
    for number, message in enumerate(messages):
        if not all(isinstance(text, str) for text in message.values()):
            raise TypeError(f"message {number} of the prompt must have texts as role and content, but is {message}")
    return messages


def as_messages(prompt: str | Messages) -> Messages:
    """A prompt as a list of messages; a text becomes one user message."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def as_text(prompt: str | Messages) -> str:
    """A prompt as text; a ValueError for messages other than a single one of the user."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1 or prompt[0]["role"] != "user":
        roles = ", ".join(message["role"] for message in prompt)
        raise ValueError(
            f"messages ({roles}) cannot be read as text (conversational=False), only a single user message can. Use a "
            "model with a chat template (conversational=True)"
        )
    return prompt[0]["content"]


def prompt_text(prompt: str | Messages) -> str:
    """All words of a prompt, whoever says them."""
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def find_form(rows: Iterable[Mapping[str, Any]], prompt_template: str | None = None) -> PromptForm | None:
    """The form of the first prompts, with `prompt_template` if it was put around all problems; None if unknown."""
    forms = [form for row in islice(rows, _NUM_ROWS) if (form := _form_of(row, prompt_template)) is not None]
    return forms[0] if forms and all(form == forms[0] for form in forms) else None


def find_problem(row: Mapping[str, Any], prompt: str) -> Any:
    """What a column `problem` or `question` holds, else what stands in a known template; None if nothing tells."""
    return row.get("problem") or row.get("question") or undo_template(prompt)


def _form_of(row: Mapping[str, Any], prompt_template: str | None) -> PromptForm | None:
    prompt = row["prompt"]
    messages = as_messages(prompt)
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
