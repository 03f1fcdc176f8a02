"""Settings of the evaluation command."""

import pytest

from dapo_trl.evaluation.config import EvaluateConfig


NEEDED = {"model": "m", "data": "aime24"}


def test_defaults_are_the_papers():
    config = EvaluateConfig(**NEEDED)
    assert (config.k, config.temperature, config.top_p, config.top_k) == (32, 1.0, 0.7, 0)
    assert (config.max_completion_length, config.backend) == (20480, "transformers")


def test_a_server_is_told_to_leave_the_models_own_sampling_settings():
    config = EvaluateConfig(**NEEDED, server_url="http://s/v1")
    assert config.backend == "server"
    assert config.server_extra == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert EvaluateConfig(**NEEDED, server_url="http://s/v1", server_extra="{}").server_extra == {}
    assert EvaluateConfig(**NEEDED, server_url="http://s/v1", top_k=5).server_extra["top_k"] == 5


def test_json_fields():
    assert EvaluateConfig(**NEEDED, chat_template_kwargs='{"a": 1}').chat_template_kwargs == {"a": 1}
    assert EvaluateConfig(**NEEDED, vllm_extra={"enforce_eager": True}).vllm_extra == {"enforce_eager": True}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "k=0 must be at least 1"),
        ({"num_problems": 0}, "num_problems=0 must be at least 1"),
        ({"temperature": -1.0}, "temperature=-1.0 must not be negative"),
        ({"temperature": 0.0}, "temperature=0 with k=32: .* Set k to 1"),
        ({"top_p": 0.0}, "top_p=0.0 must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p=1.1 must be above 0"),
        ({"backend": "vlm"}, "backend='vlm' must be one of transformers, vllm, server"),
        ({"backend": "server"}, "backend='server' with server_url=None: a server needs its address"),
        ({"backend": "vllm", "server_url": "http://s"}, "only a server has one"),
        ({"server_url": "http://s", "server_api": "x"}, "server_api='x' must be one of completions, chat"),
        ({"server_timeout": 0.0}, "server_timeout=0.0 must be a positive number of seconds"),
        ({"answer_rule": "x"}, "`answer_rule` is 'x', but the known rules are"),
        (
            {"thinking_tags": ["<t>", "<t>"]},
            r"`thinking_tags` is \['<t>', '<t>'\], but it must be two texts, the beginning",
        ),
        ({"thinking_tags": []}, r"`thinking_tags` is \[\], but it must be two texts, the beginning"),
        ({"prompt_template": "x"}, "prompt_template='x' is neither the name of a template"),
        ({"chat_template_kwargs": "{"}, "chat_template_kwargs='{' is not a JSON object"),
        ({"server_extra": "[1]"}, r"server_extra='\[1\]' is not a JSON object. Write it as"),
    ],
)
def test_what_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(**NEEDED | fields)
