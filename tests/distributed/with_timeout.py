"""
`dapo_trl.train` with a time-out of `TIMEOUT_SECONDS` for collectives.

What `ddp_timeout` does on GPUs; on the CPU, transformers ignores it.
"""

import os
from datetime import timedelta

import torch.distributed as dist

from dapo_trl.train import main


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(seconds=float(os.environ["TIMEOUT_SECONDS"])))
    main()
