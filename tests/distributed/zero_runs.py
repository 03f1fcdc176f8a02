"""Runs with DeepSpeed ZeRO, on two processes. The directory holds `killed/`, left by two that were killed."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.zero.utils import ZeRORuntimeException
from peft import LoraConfig

from tests.distributed.scenarios import (
    PLAIN,
    SCENARIOS,
    interrupted,
    not_finite,
    resumed_after_kill,
    sampled,
    trained,
)
from tests.distributed.sending import trained_and_sent
from tests.distributed.spread import DDP
from tests.distributed.zero import ZeRO


def trained_with_lora(num_processes: int = 1, spread: DDP = PLAIN, **config) -> dict[str, Any]:
    """Starts from a random adapter, so that both of its matrices get gradients from the first step on."""
    config = {"updates_per_rollout": 4, "learning_rate": 3.0} | config
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    return trained(config, num_processes, spread, peft_config=adapter)


def error_with_a_checkpoint_of_three(directory: Path) -> str:
    """What a checkpoint says that is, by its own account, of three processes."""
    checkpoint = directory / "of three" / "checkpoint-3"
    if int(os.environ["RANK"]) == 0:
        shutil.copytree(directory / "zero3" / "checkpoint-3", checkpoint)
        for path in checkpoint.glob("global_step3/*_model_states.pt"):
            torch.save(torch.load(path, weights_only=False) | {"dp_world_size": 3}, path)
    torch.distributed.barrier()
    try:
        sampled(ZeRO(3), str(checkpoint))
    except ZeRORuntimeException as error:
        ZeRO(3).reset()
        return str(error)
    return "no error"


def run_all(directory: Path) -> dict[str, Any]:
    whole = ZeRO(3)
    whole.start()
    results = {"LoRA": trained_with_lora(2, whole), "sent": trained_and_sent(whole)}
    for spread in (ZeRO(2), whole):
        for name, config in SCENARIOS.items():
            results[f"ZeRO-{spread.stage}", name] = trained(config, 2, spread)
        results[f"ZeRO-{spread.stage}", "not finite"] = not_finite(spread)
    for gathers in (True, False):
        results["sampled", gathers] = sampled(whole, ds3_gather_for_generation=gathers)
    results["interrupted"] = interrupted(str(directory / "zero3"), whole)
    results["killed"] = resumed_after_kill(str(directory / "killed"), whole)
    results["of three"] = error_with_a_checkpoint_of_three(directory)
    return results
