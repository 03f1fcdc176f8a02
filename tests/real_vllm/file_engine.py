"""
Weight transfer through a file, for a vLLM server on a CPU: vLLM's own engines need GPUs.

The server loads this module as its worker extension, in each of its worker processes.
"""

from dataclasses import dataclass

from safetensors.torch import load_file
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """
    Where the weights are.

    Args:
        path (`str`): a safetensors file.
    """

    path: str


class FileEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """The life cycle of vLLM's NCCL engine, with a file in place of the broadcast."""

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info):
        self.is_initialized = True

    def start_weight_update(self):
        if not getattr(self, "is_initialized", False):
            raise RuntimeError("Weight transfer is not initialized.")  # as NCCL's would, after a restart
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info):
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info):
        self.model.load_weights(load_file(update_info.path).items())

    def finish_weight_update(self):
        finalize_layerwise_reload(self.model, self.model_config)
        # On a CPU vLLM computes logits from a packed copy, which a reload leaves stale where the head is tied.
        for module in self.model.modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self):
        pass


class WorkerExtension:
    """Importing it registers the engine."""


WeightTransferEngineFactory.register_engine("file", FileEngine)
