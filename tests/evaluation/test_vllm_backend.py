"""How vLLM is started; what it samples is tested in `tests/real_vllm`."""

import sys

import pytest
from peft import LoraConfig

from dapo_trl.evaluation.backends.vllm import engine_options, sample_with_vllm
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.model import ModelFiles


def options_of(files: ModelFiles, **fields) -> dict:
    config = EvaluateConfig("m", "x", backend="vllm", max_completion_length=20, **fields)
    return engine_options(config, files, "tokenizer", longest_prompt=4)


def test_room_for_the_longest_sequence():
    options = options_of(ModelFiles("m"))
    assert (options["model"], options["tokenizer"], options["max_model_len"]) == ("m", "tokenizer", 24)
    assert "enable_lora" not in options


def test_extra_arguments_win():
    options = options_of(ModelFiles("m"), vllm_extra={"max_model_len": 99, "enforce_eager": True})
    assert (options["max_model_len"], options["enforce_eager"]) == (99, True)


def test_rank_of_an_adapter():
    options = options_of(ModelFiles("adapter", None, LoraConfig(r=20, base_model_name_or_path="base")))
    assert (options["model"], options["enable_lora"], options["max_lora_rank"]) == ("base", True, 32)


def test_without_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = EvaluateConfig("m", "x", backend="vllm")
    with pytest.raises(ImportError, match=r"backend='vllm' needs vLLM, which cannot be imported .* pip install"):
        sample_with_vllm(config, ModelFiles("m"), "tokenizer", [], save=None)
