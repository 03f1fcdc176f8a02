"""Ways to spread a model over processes: DDP, and FSDP2; DeepSpeed ZeRO stands in `zero.py`."""

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from dapo_trl import DAPOTrainer
from tests.helpers import weights


class DDP:
    """Every process has the whole model; also of one process alone."""

    def start(self) -> None:
        """Accelerate would say `cpu:0`, which torch.load does not know, so that no optimizer could be loaded."""
        set_device = PartialState.set_device

        def set_plain_device(state: PartialState) -> None:
            set_device(state)
            state.device = torch.device("cpu")
            self._change(state)

        PartialState.set_device = set_plain_device

    def _change(self, state: PartialState) -> None:
        pass

    def fields(self, num_processes: int) -> dict[str, Any]:
        """Of the configuration."""
        return {"ddp_backend": "gloo"} if num_processes > 1 else {}

    def assert_used(self, trainer: DAPOTrainer) -> None:
        """Nothing falls back to fewer processes or another way."""
        is_wrapped = isinstance(trainer.model_wrapped, DistributedDataParallel)
        assert is_wrapped == (trainer.accelerator.num_processes > 1)

    def weights(self, model: torch.nn.Module) -> torch.Tensor:
        """All parameters in one vector, on every process."""
        return weights(model)

    def reset(self) -> None:
        """Forgets the last run's state, so that another can begin."""


class FSDP2(DDP):
    """Accelerate is told of several devices, which happen to be CPUs: it would silently fall back to DDP."""

    environment = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    }
    """What `accelerate launch` sets from `recipes/accelerate_configs/fsdp2.yaml`."""

    def start(self) -> None:
        os.environ.update(self.environment)
        super().start()

    def _change(self, state: PartialState) -> None:
        state.distributed_type = DistributedType.MULTI_GPU

    def fields(self, num_processes: int) -> dict[str, Any]:
        return {"ddp_backend": "gloo"}

    def assert_used(self, trainer: DAPOTrainer) -> None:
        """No process holds a whole parameter of more than one row."""
        assert trainer.accelerator.is_fsdp2
        assert isinstance(trainer.model_wrapped, FSDPModule)
        for name, parameter in trainer.model.named_parameters():
            assert isinstance(parameter, DTensor), name
            if parameter.shape[0] > 1:
                assert parameter.to_local().shape[0] < parameter.shape[0], name

    def weights(self, model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([parameter.detach().full_tensor().flatten() for parameter in model.parameters()])

    def reset(self) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
