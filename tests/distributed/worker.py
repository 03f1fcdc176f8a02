"""
Makes the runs of a module on two processes, one after the other, and writes what came out.

```shell
torchrun --nproc_per_node 2 -m tests.distributed.worker zero_runs results.pt directory
```

The directory may hold checkpoints that runs start from.
"""

import importlib
import os
import sys
from pathlib import Path

import tests.conftest  # noqa: F401  sets the environment before Hugging Face libraries are imported
from tests.distributed.launcher import watch


if __name__ == "__main__":
    watch(280)

import torch
from torch.distributed.elastic.multiprocessing.errors import record


@record
def main(module: str, path: str, directory: str) -> None:
    results = importlib.import_module(f"tests.distributed.{module}").run_all(Path(directory))
    if int(os.environ["RANK"]) == 0:
        torch.save(results, path)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
