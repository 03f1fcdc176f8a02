"""What stands in the memory of a GPU in each phase of a rollout."""

from dataclasses import dataclass

from ..config import DAPOConfig
from .activations import activations, mask_bytes
from .generation import ENGINE_OVERHEAD, SERVER_UTILIZATION, Generator
from .hardware import GIB, Hardware, Sharding
from .models import ModelSize
from .recipe import Recipe
from .states import States, computes_in_half, weight_bytes
from .workload import Workload


RESERVE = 1.5 * GIB
"""CUDA's own memory, NCCL's, and what the allocator cannot use."""

ASLEEP = 0.5 * GIB
"""What a sleeping vLLM keeps: its CUDA graphs."""


@dataclass(frozen=True)
class Budget:
    """
    Memory of one GPU in one phase.

    Args:
        phase (`str`): name of the phase.
        parts (`dict[str, float]`): bytes by what they are for.
        limit (`float`): bytes that there are.
    """

    phase: str
    parts: dict[str, float]
    limit: float

    @property
    def total(self) -> float:
        """Bytes needed."""
        return sum(self.parts.values())

    @property
    def excess(self) -> float:
        """Bytes missing; 0 if it fits."""
        return max(0.0, self.total - self.limit)


def budgets(
    size: ModelSize,
    recipe: Recipe,
    states: States,
    sharding: Sharding,
    generator: Generator,
    workload: Workload,
    hardware: Hardware,
) -> list[Budget]:
    """The phases in their order, each of them on the GPUs it runs on."""
    args, limit = recipe.training_args, hardware.gpu_memory * GIB
    lasting = {"weights": states.weights, "optimizer": states.optimizer, "buffers": states.buffers}
    listed = []
    if generator.kind == "server":
        listed.append(_vllm_budget("Generation (server)", generator, workload, SERVER_UTILIZATION * limit))
    else:
        own = dict(lasting) | ({"gradients": states.gradients} if states.is_resident else {})
        if generator.kind == "colocate":
            share = args.vllm_gpu_memory_utilization * limit
            listed.append(_vllm_budget("Generation (vLLM's share)", generator, workload, share))
            own["vLLM's share"] = share
        else:
            own |= _transformers_parts(size, sharding, generator, workload)
        listed.append(Budget("Generation (trainer)", own | {"reserve": RESERVE}, limit))
    training = lasting | {"gradients": states.gradients} | _micro_batch_parts(size, recipe, sharding, workload)
    if generator.kind == "colocate":
        asleep = ASLEEP if args.vllm_enable_sleep_mode else args.vllm_gpu_memory_utilization * limit
        training["vLLM's share"] = asleep
    listed.append(Budget("Training", training | {"reserve": RESERVE}, limit))
    return listed


def _vllm_budget(phase: str, generator: Generator, workload: Workload, share: float) -> Budget:
    parts = {
        "weights": generator.weight_bytes / generator.gpus_per_copy,
        "longest completion": workload.longest_row * generator.kv_bytes_per_token / generator.gpus_per_copy,
        "engine": ENGINE_OVERHEAD,
    }
    return Budget(phase, parts, share)


def _transformers_parts(
    size: ModelSize, sharding: Sharding, generator: Generator, workload: Workload
) -> dict[str, float]:
    """With padded rows, attention holds a layer's keys and values once more, for each of the queries' heads."""
    number_bytes = generator.weight_bytes / size.num_parameters
    expanded = generator.max_rows * workload.longest_row * 2 * size.query_width * number_bytes
    parts = {"keys and values": generator.kv_bytes, "working memory": expanded}
    if sharding.stage >= 3 or sharding.kind == "fsdp":
        parts["gathered weights"] = generator.weight_bytes
    return parts


def _micro_batch_parts(size: ModelSize, recipe: Recipe, sharding: Sharding, workload: Workload) -> dict[str, float]:
    args, rows, tokens = recipe.training_args, recipe.training_args.per_device_train_batch_size, workload.longest_row
    is_flash = "flash" in (recipe.model_args.attn_implementation or "")
    number_bytes = 2 if computes_in_half(args) else 4
    residual = residual_bytes(size, args, recipe, sharding)
    kept = activations(size, args, rows, tokens, residual, number_bytes)
    return {"activations": kept.total + mask_bytes(is_flash, rows, tokens)}


def residual_bytes(size: ModelSize, args: DAPOConfig, recipe: Recipe, sharding: Sharding) -> int:
    """Bytes per number between the blocks."""
    if sharding.kind in ("zero", "fsdp"):
        return 2 if computes_in_half(args) else 4
    return weight_bytes(args, recipe.model_args, size.config.dtype)
