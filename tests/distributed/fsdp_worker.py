"""
Trains with FSDP2 on two processes, one run after the other, and writes what came out.

```shell
torchrun --nproc_per_node 2 -m tests.distributed.fsdp_worker results.pt directory
```
"""

import os
import sys

import tests.conftest  # noqa: F401  sets the environment before Hugging Face libraries are imported
from tests.distributed.launcher import watch


if __name__ == "__main__":
    watch(240)

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from tests.distributed import fsdp
from tests.distributed.scenarios import SCENARIOS, interrupted, not_finite, trained
from tests.distributed.sending import trained_and_sent


OF_FSDP = ("two micro-batches, group", "four micro-batches", "straddling groups", "partial", "AdamW")


@record
def main(path: str, directory: str) -> None:
    fsdp.start()
    results = {name: trained(SCENARIOS[name], 2, is_fsdp=True) for name in OF_FSDP}
    results["interrupted"] = interrupted(f"{directory}/fsdp", is_fsdp=True)
    results["not finite"] = not_finite(is_fsdp=True)
    results["sent"] = trained_and_sent(is_fsdp=True)
    if int(os.environ["RANK"]) == 0:
        torch.save(results, path)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
