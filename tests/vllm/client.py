"""TRL's client with a file in place of the NCCL broadcast."""

import os
import tempfile

from safetensors.torch import save_file
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient


class FileClient(VLLMClient):
    """
    Sends weights to a server whose weight transfer is [`FileEngine`]; everything else is TRL's own.

    Attributes:
        requests (`list[dict]`): arguments of each generation request so far.
        num_syncs (`int`): how often weights were sent.
        is_sending (`bool`): false leaves the server's weights stale, while every request succeeds.
    """

    is_sending = True

    def __init__(self, *args, **kwargs):
        self.requests: list[dict] = []
        self.num_syncs = 0
        super().__init__(*args, **kwargs)

    def init_communicator(self, device=0):
        if self.get_server_info()["weight_transfer_config"] is None:
            raise RuntimeError("The server has no weight-transfer engine.")
        self._post(f"{self.base_url}/init_weight_transfer_engine", json={"init_info": {}})

    def update_named_params(self, metadata, named_params):
        sent = {name: value.detach().contiguous().clone() for name, value in named_params}
        described = [
            (name, str(value.dtype).removeprefix("torch."), list(value.shape)) for name, value in sent.items()
        ]
        assert described == [tuple(entry) for entry in metadata]
        self.num_syncs += 1
        if not self.is_sending:
            return
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "weights.safetensors")
            save_file(sent, path)
            self._start_weight_update()
            self._post(f"{self.base_url}/update_weights", json={"update_info": {"path": path}})
            self._finish_weight_update()

    def generate(self, prompts, **kwargs):
        self.requests.append({"prompts": prompts, **kwargs})
        return super().generate(prompts, **kwargs)


def use_file_client() -> None:
    """Puts [`FileClient`] in the place where TRL takes its client from."""
    vllm_generation.VLLMClient = FileClient
