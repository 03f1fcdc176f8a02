"""What is wrong with a server is said in one message, with the flag that mends it."""

import copy
from dataclasses import replace

import pytest

from dapo_trl.generation.vllm import preflight
from dapo_trl.generation.vllm.preflight import (
    Requirements,
    ServerMismatchError,
    UnreachableError,
    _shared_gpus,
    check_server,
    trainer_gpus,
    visible_gpus,
    wait_for_server,
)
from tests.json_server import JSONHandler, running


FITTING = Requirements(
    model="org/Model-7B",
    dtype="bfloat16",
    num_prompt_tokens=100,
    num_completion_tokens=400,
    needs_processed_logprobs=True,
    gpus=(),
)

INFO = {
    "vllm_config": {
        "model_config": {"dtype": "torch.bfloat16", "logprobs_mode": "processed_logprobs"},
        "parallel_config": {"tensor_parallel_size": 2, "pipeline_parallel_size": 1, "data_parallel_size": 1},
        "device_config": {"device": "cuda"},
        "weight_transfer_config": {"backend": "nccl"},
    },
    "system_env": {"env_vars": "CUDA_HOME=/usr\nCUDA_VISIBLE_DEVICES=2,3\n"},
}


class Handler(JSONHandler):
    """Answers what a vLLM server answers to the questions of the preflight, and notes which they were."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.paths.append(path)
        if self.server.num_failures > 0:
            self.server.num_failures -= 1
            self.answer(503, {})
        elif path == "/server_info":
            self.answer(200 if self.server.info else 404, self.server.info)
        else:
            self.answer(200, {"data": [self.server.model]})


@pytest.fixture
def server():
    model = {"id": "org/Model-7B", "root": "org/Model-7B", "max_model_len": 500}
    with running(Handler, model=model, info=copy.deepcopy(INFO), num_failures=0, paths=[]) as server:
        server.url = server.url.removesuffix("/v1")
        yield server


def problems(server, requirements=FITTING) -> str:
    with pytest.raises(ServerMismatchError) as error:
        check_server(server.url, requirements)
    return str(error.value)


def test_a_server_that_fits(server):
    check_server(server.url, FITTING)
    assert server.paths == ["/v1/models", "/server_info"]


@pytest.mark.parametrize(
    ("served", "wanted"),
    [
        ({"id": "alias", "root": "org/Model-7B"}, "org/Model-7B"),
        ({"id": "/data/Model-7B", "root": None}, "org/Model-7B"),
        ({}, ""),  # a model without a name is not compared
    ],
)
def test_one_model_by_several_names(server, served, wanted):
    server.model |= served
    assert check_server(server.url, replace(FITTING, model=wanted)) is None


def test_everything_that_is_wrong_in_one_message(server):
    server.model |= {"id": "other", "root": "other", "max_model_len": 499}
    config = server.info["vllm_config"]
    config["model_config"] = {"dtype": "torch.float32", "logprobs_mode": "raw_logprobs"}
    config["weight_transfer_config"] = None
    message = problems(server, replace(FITTING, gpus=("1", "2")))
    lines = message.splitlines()
    assert lines[0] == f"The vLLM server at {server.url} does not fit this run:"
    assert [line[:2] for line in lines[1:-1]] == ["- "] * 6
    mended_by = [
        ("serves 'other', but the run trains 'org/Model-7B'", "vllm serve org/Model-7B"),
        ("at most 499 tokens", "--max-model-len 500"),
        ("float32, but the trainer in bfloat16", "--dtype bfloat16"),
        ("raw_logprobs", "--logprobs-mode processed_logprobs"),
        ("weight transfer is null", """--weight-transfer-config '{"backend": "nccl"}'"""),
        ("runs on GPU 2,", "CUDA_VISIBLE_DEVICES"),
    ]
    for line, (wrong, flag) in zip(lines[1:-1], mended_by, strict=True):
        assert wrong in line and flag in line
    assert "dapo-trl vllm-command" in lines[-1]


def test_without_development_endpoints(server):
    server.info = None
    assert "VLLM_SERVER_DEV_MODE=1" in problems(server)


def test_raw_logprobs_do_when_nothing_is_corrected(server):
    server.info["vllm_config"]["model_config"]["logprobs_mode"] = "raw_logprobs"
    assert check_server(server.url, replace(FITTING, needs_processed_logprobs=False)) is None


def test_a_trainer_on_gpus_needs_nccl(server):
    server.info["vllm_config"]["weight_transfer_config"]["backend"] = "ipc"
    check_server(server.url, FITTING)
    assert '{"backend": "ipc"}' in problems(server, replace(FITTING, gpus=("0",)))


def test_gpus_of_their_own(server):
    check_server(server.url, replace(FITTING, gpus=("0", "1")))
    server.info["system_env"]["env_vars"] = ""  # all GPUs are visible: the first two are used
    assert "runs on GPU 1," in problems(server, replace(FITTING, gpus=("1",)))
    check_server(server.url, replace(FITTING, gpus=("2",)))


def test_which_gpus(monkeypatch):
    assert visible_gpus(None, 2) == ("0", "1")
    assert visible_gpus("4, 5,6", 2) == ("4", "5")
    assert visible_gpus("", 2) == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert trainer_gpus("cuda", 2) == ("4", "5")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # two machines with one process each
    assert trainer_gpus("cuda", 2) == ("4",)
    assert trainer_gpus("cpu", 2) == ()


def test_a_server_elsewhere_has_other_gpus():
    gpus = ("2", "3")
    assert _shared_gpus("http://127.0.0.1:8000", INFO, gpus) == _shared_gpus("http://0.0.0.0:1", INFO, gpus) == [*gpus]
    assert _shared_gpus("http://gpu-17:8000", INFO, gpus) == []


def test_waits_for_a_server_that_is_not_up_yet(server, monkeypatch):
    monkeypatch.setattr(preflight.time, "sleep", lambda seconds: None)
    server.num_failures = 2
    wait_for_server(server.url, timeout=30)
    assert server.paths == ["/health"] * 3


def test_while_it_waits_it_says_so(server, monkeypatch, caplog):
    """Every half minute, with the address and what is left of the time."""
    now = [0.0]
    monkeypatch.setattr(preflight.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(preflight.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    server.num_failures = 25
    wait_for_server(server.url, timeout=240)
    assert now == [50.0]
    assert [record.getMessage() for record in caplog.records] == [
        f"Waiting for the vLLM server at {server.url} (/health answers 503): {left} seconds are left of "
        "vllm_server_timeout."
        for left in (240, 210)
    ]


def test_a_server_that_does_not_come_up(server):
    server.num_failures = 100
    with pytest.raises(UnreachableError, match=r"not up after 0 seconds \(/health answers 503\).*vllm_server_timeout"):
        wait_for_server(server.url, timeout=0)
    with pytest.raises(UnreachableError, match="ConnectError"):
        wait_for_server("http://127.0.0.1:9", timeout=0)
