"""Prompts as texts and as lists of messages."""

from collections.abc import Mapping
from typing import Any


Messages = list[dict[str, str]]


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
