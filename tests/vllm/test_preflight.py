"""The preflight asks a real server what it really tells."""

import pytest
import requests
import torch
from transformers import AutoModelForCausalLM

from dapo_trl.vllm import ServerMismatchError
from dapo_trl.vllm.preflight import _vocabulary_size

from .models import save_tiny
from .server import OPTIONS
from .trainers import build


def test_everything_wrong_is_said_before_the_run(server, tmp_path):
    other = save_tiny(tmp_path / "other", is_tied=True, vocab_size=128)
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.bfloat16)
    with pytest.raises(ServerMismatchError) as error:
        build(server.url, model, max_completion_length=60)
    message = str(error.value)
    assert message.count("\n- ") == 4
    assert f"but the run trains {other!r}" in message
    assert "vocabulary of 101 tokens, but the trainer's has 128" in message
    # the longest prompt is "p199=xxxx"
    assert "at most 64 tokens, but the longest prompt has 9 and max_completion_length is 60" in message
    assert "--max-model-len 69" in message
    assert "--dtype bfloat16" in message


def test_the_question_for_the_vocabulary_generates_nothing(server):
    served = requests.get(f"{server.url}/v1/models", timeout=30).json()["data"][0]["id"]
    before = num_prompts(server.url)
    assert _vocabulary_size(server.url, served) == 101
    assert num_prompts(server.url) == before


def test_options_that_the_preflight_reads(server):
    info = requests.get(f"{server.url}/server_info", params={"config_format": "json"}, timeout=30).json()
    assert info["vllm_config"]["model_config"]["logprobs_mode"] == OPTIONS["--logprobs-mode"]
    assert info["vllm_config"]["weight_transfer_config"] == {"backend": "file"}
    assert info["vllm_config"]["device_config"]["device"] == "cpu"
    assert "env_vars" in info["system_env"]
    assert info["vllm_config"]["parallel_config"]["tensor_parallel_size"] == 1


def num_prompts(url: str) -> float:
    """Requests that the server has worked on."""
    lines = requests.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:prompt_tokens_total"))
