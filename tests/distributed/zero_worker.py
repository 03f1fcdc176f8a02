"""
Trains with DeepSpeed ZeRO on two processes, one run after the other, and writes what came out.

```shell
torchrun --nproc_per_node 2 -m tests.distributed.zero_worker results.pt directory
```

The directory holds `killed/`, left by two processes that were killed.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  sets the environment before Hugging Face libraries are imported
from tests.distributed.launcher import watch


if __name__ == "__main__":
    watch(280)

import torch
from deepspeed.runtime.zero.utils import ZeRORuntimeException
from peft import LoraConfig
from torch.distributed.elastic.multiprocessing.errors import record

from tests.distributed import zero
from tests.distributed.scenarios import SCENARIOS, interrupted, not_finite, resumed_after_kill, sampled, trained
from tests.distributed.sending import trained_and_sent


def trained_with_lora(num_processes: int = 1, stage: int = 0, **config) -> dict[str, Any]:
    """Starts from a random adapter, so that both of its matrices get gradients from the first step on."""
    config = {"updates_per_rollout": 4, "learning_rate": 3.0} | config
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    return trained(config, num_processes, stage, peft_config=adapter)


def error_with_a_checkpoint_of_three(directory: Path) -> str:
    """What a checkpoint says that is, by its own account, of three processes."""
    checkpoint = directory / "of three" / "checkpoint-3"
    if int(os.environ["RANK"]) == 0:
        shutil.copytree(directory / "zero3" / "checkpoint-3", checkpoint)
        for path in checkpoint.glob("global_step3/*_model_states.pt"):
            torch.save(torch.load(path, weights_only=False) | {"dp_world_size": 3}, path)
    torch.distributed.barrier()
    try:
        sampled(3, checkpoint=str(checkpoint))
    except ZeRORuntimeException as error:
        zero.reset()
        return str(error)
    return "no error"


def run_all(directory: Path) -> dict[str, Any]:
    results = {"LoRA": trained_with_lora(2, stage=3), "sent": trained_and_sent(stage=3)}
    for stage in (2, 3):
        for name, config in SCENARIOS.items():
            results[f"ZeRO-{stage}", name] = trained(config, 2, stage)
        results[f"ZeRO-{stage}", "not finite"] = not_finite(stage)
    for gathers in (True, False):
        results["sampled", gathers] = sampled(3, ds3_gather_for_generation=gathers)
    results["interrupted"] = interrupted(str(directory / "zero3"), stage=3)
    results["killed"] = resumed_after_kill(str(directory / "killed"), stage=3)
    results["of three"] = error_with_a_checkpoint_of_three(directory)
    return results


@record
def main(path: str, directory: str) -> None:
    zero.start()
    results = run_all(Path(directory))
    if int(os.environ["RANK"]) == 0:
        torch.save(results, path)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
