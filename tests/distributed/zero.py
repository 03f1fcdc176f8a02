"""DeepSpeed ZeRO on CPU processes, several runs in one process."""

import gc
import os
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from dapo_trl import DAPOTrainer
from tests.distributed.spread import DDP


class ZeRO(DDP):
    """At stage 3, every parameter is partitioned, however small it is."""

    def __init__(self, stage: int):
        self.stage = stage

    def start(self) -> None:
        """Connects the processes; without DeepSpeed's shared-memory operator, which would be compiled first."""
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("gloo")

    def fields(self, num_processes: int) -> dict[str, Any]:
        everything = {
            "stage3_param_persistence_threshold": 0,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_live_parameters": 0,
            "stage3_max_reuse_distance": 0,
        }
        automatic = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
        settings = {
            "zero_optimization": {"stage": self.stage, **(everything if self.stage == 3 else {})},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": False},
            "gradient_clipping": "auto",
        }
        return {"deepspeed": settings | dict.fromkeys(automatic, "auto")}

    def assert_used(self, trainer: DAPOTrainer) -> None:
        assert trainer.accelerator.distributed_type == DistributedType.DEEPSPEED
        assert type(trainer.model_wrapped).__name__ == "DeepSpeedEngine"
        assert trainer.model_wrapped.zero_optimization_stage() == self.stage
        if self.stage == 3:
            assert {parameter.ds_status.name for parameter in trainer.model.parameters()} == {"NOT_AVAILABLE"}

    def weights(self, model: torch.nn.Module) -> torch.Tensor:
        parameters = list(model.parameters())
        with deepspeed.zero.GatheredParameters(parameters, enabled=self.stage == 3):
            return torch.cat([parameter.detach().flatten() for parameter in parameters]).clone()

    def reset(self) -> None:
        gc.collect()
        unset_hf_deepspeed_config()
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        AcceleratorState._reset_state(reset_partial_state=True)
