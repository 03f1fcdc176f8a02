"""The preflight asks a real server what it really tells."""

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from dapo_trl.generation.vllm import claim
from dapo_trl.generation.vllm.claim import ServerInUseError
from dapo_trl.generation.vllm.preflight import ServerMismatchError

from .models import save_tiny
from .server import OPTIONS
from .test_faults import After
from .trainers import build, train_and_compare


def test_everything_wrong_is_said_before_the_run(server, tmp_path):
    other = save_tiny(tmp_path / "other", is_tied=True)
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.bfloat16)
    with pytest.raises(ServerMismatchError) as error:
        build(server.url, model, max_completion_length=60)
    message = str(error.value)
    assert message.count("\n- ") == 3
    assert f"but the run trains {other!r}" in message
    # the longest prompt is "p199=xxxx"
    assert "at most 64 tokens, but the longest prompt has 9 and max_completion_length is 60" in message
    assert "--max-model-len 69" in message
    assert "--dtype bfloat16" in message


def test_options_that_the_preflight_reads(server):
    info = httpx.get(f"{server.url}/server_info", params={"config_format": "json"}, timeout=30).json()
    assert info["vllm_config"]["model_config"]["logprobs_mode"] == OPTIONS["--logprobs-mode"]
    assert info["vllm_config"]["weight_transfer_config"] == {"backend": "file"}
    assert info["vllm_config"]["device_config"]["device"] == "cpu"
    assert "env_vars" in info["system_env"]
    assert info["vllm_config"]["parallel_config"]["tensor_parallel_size"] == 1


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 1}, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}}],
    ids=["layers", "rope"],
)
def test_a_server_of_another_model_by_the_same_name(server, models, change):
    """One layer more, and another rope scaling, than the trainer has: every weight that is sent arrives."""
    model = AutoModelForCausalLM.from_pretrained(models["tied"], dtype=torch.float32, **change)
    trainer = build(server.url, model)
    with pytest.raises(ServerMismatchError, match=r"computes something else than the trainer.*differ by \d") as error:
        trainer.train()
    print(error.value)  # noqa: T201
    assert trainer.vllm_generation.vllm_client.requests == []  # nothing was generated


def test_a_server_in_use_is_refused_and_goes_on_serving(server, models, monkeypatch):
    """The second trainer comes when the first is in the middle of its run."""
    trainer = build(server.url, models["tied"])
    refused = []

    def come():
        monkeypatch.setattr(claim, "RUN", "another process")
        with pytest.raises(ServerInUseError, match="used by another run") as error:
            build(server.url, models["tied"])
        refused.append(error.value)

    trainer.add_callback(After(2, come))
    comparison = train_and_compare(trainer, server.url)
    assert len(refused) == 1 and trainer.state.global_step == 6
    assert max(comparison.differences) < 1e-3
    assert trainer.vllm_generation.vllm_client.num_syncs == 3  # none was repeated
    mark = httpx.get(f"{server.url}/weight_info", timeout=30).json()["weight_version"]
    assert mark.endswith("-free")  # the run is over: the next one need not wait
