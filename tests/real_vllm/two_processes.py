"""What each process of a run with two does: `python -m tests.real_vllm.two_processes <url> <model> <result>`."""

import faulthandler
import gc
import json
import sys
from pathlib import Path

import torch

from tests.helpers import weights

from .trainers import build, num_groups, train_and_compare


def main(url: str, model: str, result: str) -> None:
    faulthandler.dump_traceback_later(400, exit=True)
    trainer = build(url, model, per_device_train_batch_size=4, ddp_backend="gloo")
    comparison = train_and_compare(trainer, url)
    found = {
        "num_processes": trainer.accelerator.num_processes,
        "weights": weights(trainer.accelerator.unwrap_model(trainer.model)).double().sum().item(),
    }
    if trainer.accelerator.is_main_process:
        client = trainer.vllm_generation.vllm_client
        records = [record for record in trainer.state.log_history if "dynamic_sampling/rounds" in record]
        found |= {
            "differences": comparison.differences,
            "moved": comparison.moved,
            "num_syncs": client.num_syncs,
            "num_requests": len(client.requests),
            "num_groups": num_groups(records),
            "requests_of_groups": all(request["n"] == 4 for request in client.requests),
            "rounds": [record["dynamic_sampling/rounds"] for record in records],
            "frac_corrected": [record["sampling/frac_corrected"] for record in records],
        }
    Path(f"{result}{trainer.accelerator.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Not before the trainer is gone: with the group's last user, Gloo's threads end, and may wait for this one.
    gc.collect()
    torch.distributed.destroy_process_group()
