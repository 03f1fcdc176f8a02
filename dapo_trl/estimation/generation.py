"""Who generates, with how much memory for keys and values, and how fast."""

import math
from dataclasses import dataclass

from ..config import DAPOConfig
from .hardware import GIB, Hardware
from .models import ModelSize
from .states import computes_in_half
from .workload import Workload


SERVER_UTILIZATION = 0.9
"""Share of a GPU's memory that a vLLM server takes by default."""

ENGINE_OVERHEAD = 1.5 * GIB
"""What vLLM takes beside weights, keys and values: activations of 4096 tokens, CUDA graphs."""

MAX_SEQUENCES = 256
"""Completions that a vLLM server runs at once by default."""

STEP_SECONDS = {"vllm": 0.005, "transformers": 0.03}
"""Least time for one token of all running completions: what the program itself takes."""


@dataclass(frozen=True)
class Generator:
    """
    What generates a rollout.

    Args:
        kind (`str`): `"server"`, `"colocate"` or `"transformers"`.
        num_copies (`int`): copies of the model, which work side by side.
        gpus_per_copy (`int`): GPUs of each.
        weight_bytes (`float`): of one copy.
        kv_bytes_per_token (`int`): keys and values of a token.
        kv_bytes (`float`): what a copy has for them, on all its GPUs; negative if not even the weights fit.
        max_rows (`int`): completions that a copy may run at once.
    """

    kind: str
    num_copies: int
    gpus_per_copy: int
    weight_bytes: float
    kv_bytes_per_token: int
    kv_bytes: float
    max_rows: int

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values a copy can hold."""
        return max(0, int(self.kv_bytes // self.kv_bytes_per_token))

    def num_running(self, tokens_per_row: int) -> int:
        """Completions that a copy runs at once."""
        return max(1, min(self.max_rows, self.kv_tokens // tokens_per_row))


def plan_generator(
    size: ModelSize, args: DAPOConfig, num_copies_of_server: int, hardware: Hardware, workload: Workload
) -> Generator:
    """
    Who generates the rollouts of a recipe.

    Args:
        size (`ModelSize`): the model.
        args (`DAPOConfig`): `use_vllm` and all of `vllm_*`.
        num_copies_of_server (`int`): `vllm_data_parallel_size`.
        hardware (`Hardware`): GPUs of the trainer; those of a server are of the same kind.
        workload (`Workload`): the rollout.
    """
    number_bytes = 2 if computes_in_half(args) else 4
    weights, kv = number_bytes * size.num_parameters, size.kv_bytes_per_token * number_bytes // 2
    rows_per_process = args.per_device_train_batch_size * args.steps_per_generation
    if not args.use_vllm:
        needed = rows_per_process * workload.longest_row * kv
        return Generator("transformers", hardware.num_gpus, 1, weights, kv, needed, rows_per_process)
    gpus_per_copy = args.vllm_tensor_parallel_size
    is_server = args.vllm_mode == "server"
    share = SERVER_UTILIZATION if is_server else args.vllm_gpu_memory_utilization
    free = gpus_per_copy * (share * hardware.gpu_memory * GIB - ENGINE_OVERHEAD) - weights
    return Generator(
        kind=args.vllm_mode,
        num_copies=num_copies_of_server if is_server else max(1, hardware.num_gpus // gpus_per_copy),
        gpus_per_copy=gpus_per_copy,
        weight_bytes=weights,
        kv_bytes_per_token=kv,
        kv_bytes=free,
        max_rows=MAX_SEQUENCES if is_server else rows_per_process * gpus_per_copy,
    )


def generation_seconds(size: ModelSize, generator: Generator, hardware: Hardware, workload: Workload) -> float:
    r"""
    Time to generate a rollout.

    Of c completions at once, each token takes the time to read the weights and c completions' keys and values once, or
    to compute c tokens, whichever is longer. The longest completion goes on alone when the usual ones have ended. With
    transformers, all rows of a call go on until the longest has ended.
    """
    rows_per_copy = math.ceil(workload.num_generated / generator.num_copies)
    running = min(rows_per_copy, generator.num_running(workload.row))
    num_waves = rows_per_copy / running
    seconds = token_seconds(size, generator, hardware, running, workload.row)
    if generator.kind == "transformers":
        return math.ceil(num_waves) * workload.longest_completion * seconds
    alone = token_seconds(size, generator, hardware, 1, workload.longest_row)
    tail = (workload.longest_completion - workload.completion) * alone
    return num_waves * workload.completion * seconds + tail


def token_seconds(size: ModelSize, generator: Generator, hardware: Hardware, running: int, tokens: int) -> float:
    """Time for one token of each of so many running completions, with so many tokens each behind them."""
    num_bytes = generator.weight_bytes + running * tokens * generator.kv_bytes_per_token
    reading = hardware.seconds_to_read(num_bytes, generator.gpus_per_copy)
    computing = hardware.seconds_to_compute(2 * size.num_multiplied * running, generator.gpus_per_copy)
    program = STEP_SECONDS["transformers" if generator.kind == "transformers" else "vllm"]
    return max(reading, computing) + program
