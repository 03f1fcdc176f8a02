"""Sends a model that FSDP2 has sharded: `torchrun ... -m tests.real_vllm.sharded_adapters <url> <model>`."""

import faulthandler
import sys
from types import SimpleNamespace

import torch
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from .test_adapters import sync, with_large_adapters


def main(url: str, path: str) -> None:
    faulthandler.dump_traceback_later(400, exit=True)
    torch.distributed.init_process_group("gloo")
    model = with_large_adapters(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32))
    fully_shard(model)
    state = SimpleNamespace(deepspeed_plugin=None, fsdp_plugin=None)
    is_main = torch.distributed.get_rank() == 0
    sync(model, url, SimpleNamespace(state=state, is_main_process=is_main, device=torch.device("cpu")), fsdp_version=2)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
