"""DeepSpeed ZeRO on CPU processes, several runs in one process."""

import gc
import os
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from accelerate.state import AcceleratorState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config


def start() -> None:
    """Connects the processes; without DeepSpeed's shared-memory operator, which would be compiled first."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")


def configuration(stage: int) -> dict[str, Any]:
    """Settings of DeepSpeed; at stage 3, every parameter is partitioned, however small it is."""
    everything = {
        "stage3_param_persistence_threshold": 0,
        "stage3_prefetch_bucket_size": 0,
        "stage3_max_live_parameters": 0,
        "stage3_max_reuse_distance": 0,
    }
    return {
        "zero_optimization": {"stage": stage, **(everything if stage == 3 else {})},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": False},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


def assert_partitioned(model: torch.nn.Module, stage: int) -> None:
    """At stage 3, no process holds any parameter as a whole."""
    statuses = {parameter.ds_status.name for parameter in model.parameters()} if stage == 3 else set()
    assert statuses == ({"NOT_AVAILABLE"} if stage == 3 else set()), statuses


def gathered_weights(model: torch.nn.Module, stage: int) -> torch.Tensor:
    """All parameters in one vector, a copy, on every process."""
    parameters = list(model.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=stage == 3):
        return torch.cat([parameter.detach().flatten() for parameter in parameters]).clone()


def reset() -> None:
    """Forgets the last run's DeepSpeed, so that another can begin."""
    gc.collect()
    unset_hf_deepspeed_config()
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    AcceleratorState._reset_state(reset_partial_state=True)
