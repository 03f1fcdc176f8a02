"""How problems are asked: as given, as in the training, or as the data has them."""

import pytest

from dapo_trl.data.templates import BOXED_TEMPLATE
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.prompts import find_prompt_settings


MESSAGES = [{"role": "system", "content": "Think."}, {"role": "user", "content": "{problem}?"}]


def asking(metadata: dict | None, has_chat_template: bool = True, **fields):
    return find_prompt_settings(EvaluateConfig("nowhere", "sums", **fields), metadata, has_chat_template)


def trained(form, **kwargs) -> dict:
    return {"prompt": form, "chat_template_kwargs": kwargs}


def test_as_in_the_training():
    found = asking(trained(MESSAGES, think=False))
    assert (found.form, found.chat_template_kwargs, found.origin) == (MESSAGES, {"think": False}, "model")
    found = asking(trained("{problem}="))
    assert (found.form, found.chat_template_kwargs) == ("{problem}=", None)


def test_as_in_the_training_of_another_model():
    assert asking(trained(MESSAGES), like="run").origin == "like"


def test_a_given_template_keeps_the_system_prompt_and_is_warned_of(caplog):
    found = asking(trained(MESSAGES), prompt_template="boxed")
    assert found.form == [MESSAGES[0], {"role": "user", "content": BOXED_TEMPLATE}]
    assert (found.prompt_template, found.origin) == (None, "given")
    assert "prompt_template='boxed' is not what the model was trained with, '{problem}?'" in caplog.text


def test_given_arguments_of_the_chat_template_are_warned_of(caplog):
    assert asking(trained(MESSAGES, think=False), chat_template_kwargs={}).chat_template_kwargs is None
    assert "chat_template_kwargs={} is not what the model was trained with, {'think': False}" in caplog.text


def test_what_is_given_as_it_was_is_not_warned_of(caplog):
    asking(trained(MESSAGES, think=False), prompt_template="{problem}?", chat_template_kwargs='{"think": false}')
    assert "not what the model was trained with" not in caplog.text


def test_models_of_others_are_asked_as_the_data_has_it(caplog):
    found = asking(None)
    assert (found.form, found.prompt_template, found.chat_template_kwargs) == (None, None, None)
    assert found.origin == "default"
    found = asking(None, prompt_template="boxed", chat_template_kwargs={"think": True})
    assert (found.form, found.prompt_template, found.chat_template_kwargs) == (None, "boxed", {"think": True})
    assert found.origin == "given" and not caplog.records


def test_an_unknown_form_is_told(caplog):
    assert asking(trained(None)).origin == "default"
    assert "How 'nowhere' was asked in its training is not known" in caplog.text


def test_messages_need_a_chat_template():
    with pytest.raises(ValueError, match="'nowhere' was trained on messages, but the tokenizer has no chat template"):
        asking(trained(MESSAGES), has_chat_template=False)
