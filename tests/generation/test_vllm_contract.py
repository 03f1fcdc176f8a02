"""What `dapo_trl.generation.vllm` relies on inside TRL, asked of TRL itself (see `test_trl_contract.py`)."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from requests import Response, Session
from requests.adapters import HTTPAdapter
from trl import GRPOTrainer
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer

from dapo_trl import DAPOTrainer
from dapo_trl.generation.vllm.client import NOTHING_GENERATED, limit_requests
from dapo_trl.generation.vllm.generation import Generation
from dapo_trl.generation.vllm.preflight import check_weight_transfer
from tests.helpers import EOS, FIRST_CHARACTER, build
from tests.packed_transfer import receive_packed
from tests.recording_vllm import FakeClient


SERVER = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://server", "max_steps": 3}


class RecordingClient(FakeClient):
    """Remembers its calls."""

    def __init__(self, **kwargs):
        self.calls = [("connect", kwargs)]

    def init_communicator(self, device):
        self.calls.append(("init_communicator", {"device": device}))

    def update_named_params(self, metadata, named_params):
        received = receive_packed(metadata, named_params)
        self.calls.append(("update_named_params", {"metadata": metadata, "received": received}))

    def reset_prefix_cache(self):
        self.calls.append(("reset_prefix_cache", {}))

    def generate(self, **kwargs):
        self.calls.append(("generate", kwargs))
        prompts, n = kwargs["prompts"], kwargs["n"]
        completions = [[FIRST_CHARACTER + i % 7, EOS] for i in range(n * len(prompts))]
        return {
            "prompt_ids": prompts,
            "completion_ids": completions,
            "logprobs": [[[-4.0] for _ in ids] for ids in completions],
        }

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def trainer(monkeypatch):
    """A `GRPOTrainer` with a server."""
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "VLLMClient", RecordingClient)
    return build(GRPOTrainer, SERVER, rollout_func=None)


# The trainer


def test_the_trainer_looks_the_class_up_in_its_module(monkeypatch):
    """Which is why another one can be put there while a trainer is built."""
    given = {}
    monkeypatch.setattr(grpo_trainer, "VLLMGeneration", lambda **kwargs: given.update(kwargs))
    trainer = build(GRPOTrainer, SERVER | {"vllm_importance_sampling_correction": False}, rollout_func=None)
    assert trainer.vllm_generation is None
    assert given["model"] is trainer.model and given["accelerator"] is trainer.accelerator
    assert given["processing_class"] is trainer.processing_class
    assert (given["mode"], given["server_base_url"], given["max_completion_length"]) == ("server", "http://server", 16)
    assert {"server_host", "server_port", "server_timeout"} <= given.keys()
    assert given.keys() <= inspect.signature(VLLMGeneration).parameters.keys()


def test_one_sync_per_optimizer_step_before_the_first_request(trainer):
    trainer.train()
    calls = trainer.vllm_generation.vllm_client.names()
    rollout = ["update_named_params", "reset_prefix_cache", "generate"]
    assert calls == ["connect", "init_communicator", *rollout * 3]
    for _ in range(2):
        trainer._generate(["12="] * 4)
    assert trainer.vllm_generation.vllm_client.names() == [*calls, *rollout, "generate"]


def test_requests_are_for_groups(trainer):
    trainer.train()
    requests = [arguments for name, arguments in trainer.vllm_generation.vllm_client.calls if name == "generate"]
    for request in requests:
        assert (len(request["prompts"]), request["n"], request["max_tokens"]) == (2, 4, 16)


def test_what_the_correction_is_counted_from(trainer, monkeypatch):
    scored = []
    score = GRPOTrainer._generate_and_score_completions
    monkeypatch.setattr(
        GRPOTrainer,
        "_generate_and_score_completions",
        lambda self, inputs: scored.append(score(self, inputs)) or scored[-1],
    )
    trainer.train()
    assert trainer.vllm_importance_sampling_mode and trainer.vllm_importance_sampling_clip_max
    assert trainer.vllm_importance_sampling_clip_min is None
    for name in ("old_per_token_logps", "sampling_per_token_logps"):
        assert scored[0][name].shape == scored[0]["completion_ids"].shape
    assert torch.all(scored[0]["sampling_per_token_logps"] == -4)


# VLLMGeneration


def test_only_these_methods_are_overridden():
    methods = {name for name, value in vars(Generation).items() if inspect.isfunction(value)}
    overridden = {name for name in methods if hasattr(VLLMGeneration, name)}
    assert overridden == {"__init__", "_init_vllm", "_iter_named_params", "sync_weights", "generate"}
    for name in overridden - {"__init__", "generate"}:
        assert list(inspect.signature(getattr(VLLMGeneration, name)).parameters) == ["self"]


def test_names_of_ours_are_free(trainer):
    own = {
        "_args",
        "_datasets",
        "_global_step",
        "_url",
        "_claim",
        "_requirements",
        "_is_connected",
        "_is_compared",
        "_draw",
    }
    assert not own & vars(trainer.vllm_generation).keys()


def test_what_is_known_before_the_connection(monkeypatch):
    monkeypatch.setattr(VLLMGeneration, "_init_vllm", lambda self: None)
    generation = build(GRPOTrainer, SERVER | {"vllm_importance_sampling_correction": False}).vllm_generation
    assert (generation.mode, generation.server_base_url) == ("server", "http://server")
    assert (generation.server_host, generation.server_port, generation.server_timeout) == ("0.0.0.0", 8000, 240.0)
    assert generation.max_completion_length == 16 and generation._weight_metadata is None
    assert generation._dist.is_fsdp is False
    with generation._dist.gather_params(list(generation.model.parameters())):
        assert generation.model.config.get_text_config().vocab_size == 128


def test_weights_are_described_once_and_sent_in_this_order(trainer):
    trainer.train()
    calls = trainer.vllm_generation.vllm_client.calls
    updates = [arguments for name, arguments in calls if name == "update_named_params"]
    expected = [(name, "float32", list(value.shape)) for name, value in trainer.model.named_parameters()]
    for update in updates:
        assert update["metadata"] == expected
        assert update["metadata"] is updates[0]["metadata"]


def test_what_is_handed_out_is_still_the_same_when_the_client_copies_it(trainer):
    """Full fine-tuning hands out the weights themselves, which no one changes meanwhile."""
    sent = []
    update = trainer.vllm_generation.vllm_client.update_named_params

    def update_and_compare(metadata, named_params):
        sent.append({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        update(metadata, named_params)

    trainer.vllm_generation.vllm_client.update_named_params = update_and_compare
    trainer.train()
    calls = trainer.vllm_generation.vllm_client.calls
    updates = [arguments["received"] for name, arguments in calls if name == "update_named_params"]
    assert len(updates) == len(sent) == 3
    for received, expected in zip(updates, sent, strict=True):
        assert all(torch.equal(received[name], expected[name]) for name in expected)


def test_an_empty_answer_passes(trainer):
    """What the guarded client answers after a fault."""
    trainer.vllm_generation.vllm_client.generate = lambda **kwargs: NOTHING_GENERATED
    assert trainer.vllm_generation.generate([[5, 6]] * 4, None, 4) == ([], [], None, None)


# What TRL's client needs


def needing(device: str, url: str = "http://127.0.0.1:9") -> SimpleNamespace:
    fields = {"use_vllm": True, "vllm_mode": "server", "use_cpu": False, "process_index": 0}
    return SimpleNamespace(**fields, vllm_server_base_url=url, device=torch.device(device))


def test_trls_client_sends_from_a_gpu_only(monkeypatch):
    client = object.__new__(VLLMClient)
    client.base_url, client.group_port = "http://server", 1
    client.get_server_info = lambda: {"weight_transfer_config": {"backend": "nccl"}}
    client.get_world_size = lambda: 1
    monkeypatch.setattr("trl.generation.vllm_client.get_ip", lambda: "127.0.0.1", raising=False)
    with pytest.raises(NotImplementedError, match="needs a CUDA device"):
        client.init_communicator(torch.device("cpu"))


def test_what_it_needs_is_asked_for_before_anything_is_loaded(monkeypatch):
    with pytest.raises(ValueError, match="cannot train on the device 'cpu'"):
        build(DAPOTrainer, SERVER, model="no/model")
    with pytest.raises(ValueError, match="cannot train on the device 'mps'"):
        check_weight_transfer(needing("mps"))
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: False)
    with pytest.raises(ImportError, match=r"needs vLLM where the trainer runs too.*pip install trl\[vllm\]"):
        check_weight_transfer(needing("cuda"))
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    check_weight_transfer(needing("cuda"))
    monkeypatch.setattr(vllm_generation, "VLLMClient", RecordingClient)  # which needs neither
    check_weight_transfer(needing("cpu"))


# VLLMClient


def test_its_session_repeats_nothing_and_waits_for_a_time_only(monkeypatch):
    session, sent = Session(), []
    session.mount("http://", HTTPAdapter(max_retries=5))
    limit_requests(session, 100.0)

    def send(adapter, request, timeout, **kwargs):
        sent.append((request.method, timeout, adapter.max_retries.total))
        return Response()

    monkeypatch.setattr(HTTPAdapter, "send", send)
    session.get("http://server/v1/models")
    session.post("http://server/v1/completions", json={})
    assert sent == [("GET", (30, 30), 0), ("POST", (30, 100.0), 0)]


@pytest.mark.parametrize(
    ("name", "parameters"),
    {
        "init_communicator": "self device",
        "close_communicator": "self",
        "update_named_params": "self metadata named_params",
        "reset_prefix_cache": "self",
        "_get": "self url kwargs",
    }.items(),
)
def test_parameters_of_the_client(name, parameters):
    assert list(inspect.signature(getattr(VLLMClient, name)).parameters) == parameters.split()


def test_a_failed_request_is_a_plain_exception():
    """Nothing more specific to catch."""
    client = object.__new__(VLLMClient)
    refusal = SimpleNamespace(status_code=500, text="broken")
    client.session = SimpleNamespace(get=lambda url: refusal, post=lambda url: refusal)
    for method in (client._get, client._post):
        with pytest.raises(Exception, match="Request failed: 500, broken") as error:
            method("http://server")
        assert type(error.value) is Exception
