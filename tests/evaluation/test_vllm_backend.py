"""How vLLM is started; what it samples is tested in `tests/real_vllm`."""

import sys
from types import SimpleNamespace

import pytest
from peft import LoraConfig

from dapo_trl.evaluation.backends import PromptEncoder, VLLMBackend
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.model import ModelFiles
from dapo_trl.evaluation.samples import Request
from tests.helpers import char_tokenizer


class Started(Exception):
    """With the options that vLLM would be started with."""


@pytest.fixture
def vllm(monkeypatch):
    def start(**options):
        raise Started(options)

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=start))


def options_of(files: ModelFiles, **fields) -> dict:
    config = EvaluateConfig(model="m", data="x", backend="vllm", max_completion_length=20, **fields)
    with pytest.raises(Started) as started:
        VLLMBackend(config, files, PromptEncoder(char_tokenizer())).sample([Request("a", 0, 7, "1+1=")], save=None)
    return started.value.args[0]


def test_room_for_the_longest_sequence(vllm):
    options = options_of(ModelFiles("m", None))
    assert (options["model"], options["max_model_len"]) == ("m", 24)
    assert "enable_lora" not in options


def test_extra_arguments_win(vllm):
    options = options_of(ModelFiles("m", None), vllm_extra={"max_model_len": 99, "enforce_eager": True})
    assert (options["max_model_len"], options["enforce_eager"]) == (99, True)


def test_rank_of_an_adapter(vllm):
    options = options_of(ModelFiles("adapter", None, LoraConfig(r=20, base_model_name_or_path="base")))
    assert (options["model"], options["enable_lora"], options["max_lora_rank"]) == ("base", True, 32)


def test_without_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = EvaluateConfig(model="m", data="x", backend="vllm")
    with pytest.raises(ImportError, match=r"backend='vllm' needs vLLM, which cannot be imported .* pip install"):
        VLLMBackend(config, ModelFiles("m", None), PromptEncoder(char_tokenizer()))
