"""TRL's client with a file in place of the NCCL broadcast."""

import os
import tempfile
from collections.abc import Iterable, Iterator

import torch
from safetensors.torch import save_file
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient
from vllm.distributed.weight_transfer.packed_tensor import (
    DEFAULT_PACKED_BUFFER_SIZE_BYTES,
    pack_tensors,
    unpack_tensor,
)


def packed_and_unpacked(
    named_params: Iterable[tuple[str, torch.Tensor]], buffer_size: int = DEFAULT_PACKED_BUFFER_SIZE_BYTES
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights after vLLM's own code has packed them for its broadcast, and unpacked them on the other side."""
    iterator = iter(named_params)
    while (chunk := pack_tensors(iterator, lambda item: item[1], buffer_size)) is not None:
        yield from unpack_tensor(chunk.packed_tensor, chunk.names, chunk.shapes, chunk.dtypes, chunk.tensor_sizes)


class FileClient(VLLMClient):
    """
    Sends weights to a server whose weight transfer is [`FileEngine`]; everything else is TRL's own, and vLLM's.

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
        sent = {name: value.clone() for name, value in packed_and_unpacked(named_params)}
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
