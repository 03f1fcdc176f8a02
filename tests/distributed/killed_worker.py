"""
Trains with DDP or ZeRO-3 on two processes until the second one is killed.

```shell
torchrun --nproc_per_node 2 -m tests.distributed.killed_worker ddp directory
```

The directory then holds the checkpoints of the steps before, and perhaps a half-written one.
"""

import os
import sys

import tests.conftest  # noqa: F401  sets the environment before Hugging Face libraries are imported
from tests.distributed.launcher import watch


if __name__ == "__main__":
    watch(200)

from dapo_trl import DAPOTrainer, trainer
from tests.distributed.scenarios import PLAIN, sampled
from tests.kill_worker import Countdown, before


POINTS = {
    "ddp": (trainer, "save_state", 3),  # while the third step is saved
    "zero3": (DAPOTrainer, "training_step", 7),  # in the fourth step, the middle of the second rollout
}
LAST_CHECKPOINTS = {"ddp": "checkpoint-2", "zero3": "checkpoint-3"}


def main(strategy: str, directory: str) -> None:
    spread = PLAIN
    if strategy == "zero3":
        from tests.distributed.zero import ZeRO

        spread = ZeRO(3)
    spread.start()
    owner, name, count = POINTS[strategy]
    if int(os.environ["RANK"]) == 1:
        before(owner, name, Countdown(count))
    sampled(spread, output_dir=directory, save_strategy="steps", save_steps=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
