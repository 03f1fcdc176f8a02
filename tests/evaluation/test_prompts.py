"""How problems are asked: as given, as in the training, or as the data has them."""

from dataclasses import astuple

import pytest

from dapo_trl.data.templates import BOXED_TEMPLATE
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.prompts import find_prompt_settings


MESSAGES = [{"role": "system", "content": "Think."}, {"role": "user", "content": "{problem}?"}]


def asking(metadata: dict | None, has_chat_template: bool = True, **fields):
    return find_prompt_settings(EvaluateConfig("nowhere", "sums", **fields), metadata, has_chat_template)


def trained(form, **kwargs) -> dict:
    return {"prompt": form, "chat_template_kwargs": kwargs}


@pytest.mark.parametrize(
    ("metadata", "fields", "expected"),
    [
        # As in the training; empty arguments of the chat template are none.
        (trained(MESSAGES, think=False), {}, (MESSAGES, None, {"think": False}, "model")),
        (trained("{problem}="), {}, ("{problem}=", None, None, "model")),
        (trained(MESSAGES), {"like": "run"}, (MESSAGES, None, None, "like")),
        # What is given as it was in the training.
        (
            trained(MESSAGES, think=False),
            {"prompt_template": "{problem}?", "chat_template_kwargs": '{"think": false}'},
            (MESSAGES, None, {"think": False}, "given"),
        ),
        # Models of others are asked as the data has it, or as given.
        (None, {}, (None, None, None, "default")),
        (
            None,
            {"prompt_template": "boxed", "chat_template_kwargs": {"think": True}},
            (None, "boxed", {"think": True}, "given"),
        ),
    ],
)
def test_what_is_given_else_the_training_else_the_default(metadata, fields, expected, caplog):
    assert astuple(asking(metadata, **fields)) == expected
    assert not caplog.records


def test_a_given_template_keeps_the_system_prompt_and_is_warned_of(caplog):
    found = asking(trained(MESSAGES), prompt_template="boxed")
    assert astuple(found) == ([MESSAGES[0], {"role": "user", "content": BOXED_TEMPLATE}], None, None, "given")
    assert "prompt_template='boxed' is not what the model was trained with, '{problem}?'" in caplog.text


def test_given_arguments_of_the_chat_template_are_warned_of(caplog):
    assert asking(trained(MESSAGES, think=False), chat_template_kwargs={}).chat_template_kwargs is None
    assert "chat_template_kwargs={} is not what the model was trained with, {'think': False}" in caplog.text


def test_an_unknown_form_is_told(caplog):
    assert asking(trained(None)).origin == "default"
    assert "How 'nowhere' was asked in its training is not known" in caplog.text


def test_messages_need_a_chat_template():
    with pytest.raises(ValueError, match="'nowhere' was trained on messages, but the tokenizer has no chat template"):
        asking(trained(MESSAGES), has_chat_template=False)
