"""FSDP2 on CPU processes, for which Accelerate would silently fall back to DDP."""

import os

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor


ENVIRONMENT = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
"""What `accelerate launch` sets from `recipes/accelerate_configs/fsdp2.yaml`."""


def start() -> None:
    """Has Accelerate believe in several devices, which happen to be CPUs."""
    os.environ.update(ENVIRONMENT)
    set_device = PartialState.set_device

    def set_plain_device(self):
        set_device(self)
        self.device = torch.device("cpu")
        self.distributed_type = DistributedType.MULTI_GPU

    PartialState.set_device = set_plain_device


def assert_partitioned(model: torch.nn.Module) -> None:
    """No process holds a whole parameter of more than one row."""
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor), name
        if parameter.shape[0] > 1:
            assert parameter.to_local().shape[0] < parameter.shape[0], name


def gathered_weights(model: torch.nn.Module) -> torch.Tensor:
    """All parameters in one vector, on every process."""
    return torch.cat([parameter.detach().full_tensor().flatten() for parameter in model.parameters()])


def reset() -> None:
    """Forgets the last run's state, so that another can begin."""
    AcceleratorState._reset_state(reset_partial_state=True)
