"""TRL's generation with vLLM, with something that remembers weights in place of vLLM."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator
from trl.distributed import DistributedBackend

from dapo_trl.generation.vllm.claim import Claim
from dapo_trl.generation.vllm.client import GuardedClient
from dapo_trl.generation.vllm.generation import Generation
from tests.packed_transfer import receive_packed


ARGS = SimpleNamespace(vllm_max_retries=0, vllm_request_timeout=1.0, seed=42)
"""What [`Generation`] needs of the settings once it is built."""


class FakeClient:
    """Stands for TRL's client, and sends nothing."""

    base_url, model, session = "http://server", "model", SimpleNamespace(adapters={}, request=None)

    def __init__(self, **kwargs):
        self.calls: list[str] = []

    def init_communicator(self, device):
        self.calls.append("connect")

    def close_communicator(self):
        self.calls.append("close")

    def update_named_params(self, metadata, named_params):
        self.calls.append("send")
        receive_packed(metadata, named_params)

    def reset_prefix_cache(self):
        pass

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def _get(self, url):
        return {"data": [{"id": "model"}]}


class HeldClaim(Claim):
    """A claim that is held on a server that is not there, whose mark it keeps itself."""

    def __init__(self):
        super().__init__("http://server")
        self.mark, self.is_marked = "default", True
        self.take()

    def take(self) -> None:
        if not self.is_on_server():
            self._write_new()
            self.has_weights = False

    def _read(self) -> str | None:
        return self.mark

    def _write(self, mark: str) -> None:
        self.mark = mark


class Recorder(FakeClient):
    """
    Takes weights as a client of a server does, which copies them last of all, or as vLLM's model, which does at once.
    The latest are `received`, by name.
    """

    def __init__(self):
        self.received: dict[str, torch.Tensor] = {}

    def load_weights(self, weights) -> None:
        self.received |= {name: value.clone() for name, value in weights}

    def update_named_params(self, metadata, named_params) -> None:
        names = []
        sent = (names.append(name) or (name, value) for name, value in named_params)
        self.received |= receive_packed(metadata, sent)
        assert names == [name for name, _, _ in metadata]


def recording_generation(mode: str, model: torch.nn.Module, accelerator: Accelerator) -> tuple[Generation, Recorder]:
    """As much of [`Generation`] as sending weights needs; on the main process, the recorder gets them."""
    generation, recorder = object.__new__(Generation), Recorder()
    generation.model, generation.accelerator = model, accelerator
    generation._dist = DistributedBackend(accelerator)
    generation.mode, generation.enable_sleep_mode, generation._weight_metadata = mode, False, None
    generation._args = ARGS
    runner = SimpleNamespace(model_runner=SimpleNamespace(model=recorder))
    engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))
    generation.llm = SimpleNamespace(llm_engine=engine, reset_prefix_cache=lambda: None)
    if accelerator.is_main_process:
        generation.vllm_client = GuardedClient(recorder, 1.0, HeldClaim())
    return generation, recorder
