"""The prompt of a row, as text or as messages."""

from collections.abc import Mapping
from typing import Any

from .layouts import Layout, get_column
from .templates import DEFAULT_TEMPLATE, apply_template, undo_template


Messages = list[dict[str, str]]


def build_prompt(
    row: Mapping[str, Any], layout: Layout, prompt_template: str | None = None
) -> tuple[str | Messages, str]:
    """
    The prompt of a row and the bare problem in it.

    Args:
        row (`Mapping`):
            A row of the data set.
        layout ([`Layout`]):
            Where the prompt stands.
        prompt_template (`str`, *optional*):
            Name or text of the template to put around the problem. If `None`, prompts stay as they are and bare
            problems get the `dapo` template.

    Returns:
        `tuple`: the prompt (a text or a list of messages, as in the row) and the problem.

    Raises:
        TypeError, ValueError: if the prompt is empty, of another type, or a conversation no template fits around.
    """
    value = get_column(row, layout.prompt)
    if isinstance(value, str):
        wrapped, before = value, []
    else:
        messages = _check_messages(value)
        if messages[-1]["role"] != "user" or len([m for m in messages if m["role"] == "user"]) > 1:
            if prompt_template is not None:
                raise ValueError(
                    f"prompt_template={prompt_template!r} cannot be put around a conversation of "
                    f"{len(messages)} messages: it needs one user message. Leave prompt_template out"
                )
            return messages, messages[-1]["content"].strip()
        wrapped, before = messages[-1]["content"], messages[:-1]
    if not wrapped.strip():
        raise ValueError("the prompt is empty")
    undone = undo_template(wrapped)
    problem = _problem_beside(row, layout) or (wrapped.strip() if undone is None else undone)
    is_bare_text = isinstance(value, str) and layout.is_bare and undone is None
    template = prompt_template or (DEFAULT_TEMPLATE if is_bare_text else None)
    text = wrapped if template is None else apply_template(template, problem)
    return (text if isinstance(value, str) else [*before, {"role": "user", "content": text}]), problem


def _problem_beside(row: Mapping[str, Any], layout: Layout) -> str | None:
    problem = get_column(row, layout.problem) if layout.problem else None
    return problem.strip() if isinstance(problem, str) else None


def _check_messages(value: Any) -> Messages:
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise TypeError(f"a prompt must be a text or a list of messages, not {type(value).__name__}")
    if not value:
        raise ValueError("the prompt is an empty list of messages")
    for number, message in enumerate(value):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise TypeError(
                    f"message {number} of the prompt must have a text as {key!r}, not {message.get(key)!r}"
                )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def as_messages(prompt: str | Messages) -> Messages:
    """A prompt as a list of messages; a text becomes one user message."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def as_text(prompt: str | Messages) -> str:
    """
    A prompt as text.

    Raises:
        ValueError: for messages other than a single one of the user, which only a chat template can turn into text.
    """
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
