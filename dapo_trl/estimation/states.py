"""Memory of the model and its optimizer on one GPU."""

from dataclasses import dataclass

from trl import ModelConfig

from ..config import DAPOConfig
from .hardware import Sharding
from .models import ModelSize


DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default bucket, in which gradients are reduced."""

LIVE_ELEMENTS = 1_000_000_000
"""DeepSpeed's default bound on the parameters that ZeRO-3 holds gathered."""


@dataclass(frozen=True)
class States:
    """
    Bytes that last from step to step.

    Args:
        weights (`float`): on the GPU, with the copies that autocast makes during a forward pass.
        gradients (`float`): on the GPU while the model trains.
        optimizer (`float`): AdamW's states on the GPU, with float32 weights of its own where it has them.
        buffers (`float`): for communication.
        host (`float`): in CPU memory, for each process.
        is_resident (`bool`): gradients stay during generation.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    host: float = 0.0
    is_resident: bool = False


def weight_bytes(args: DAPOConfig, model_args: ModelConfig, config_dtype: object = None) -> int:
    """Bytes per number in which the weights are loaded."""
    dtype = (args.model_init_kwargs or {}).get("dtype", model_args.dtype)
    if dtype in (None, "auto"):
        dtype = config_dtype or "float32"
    return DTYPE_BYTES[str(dtype).removeprefix("torch.")]


def computes_in_half(args: DAPOConfig) -> bool:
    """Whether matrices are multiplied in two-byte numbers."""
    return bool(args.bf16 or args.fp16)


def model_states(
    size: ModelSize, args: DAPOConfig, model_args: ModelConfig, sharding: Sharding, num_gpus: int
) -> States:
    """
    Memory of weights, gradients and optimizer, as the ZeRO paper counts it (https://huggingface.co/papers/1910.02054).

    Args:
        size (`ModelSize`): the model, R processes hold it.
        args (`DAPOConfig`): precision.
        model_args (`ModelConfig`): type of the weights, quantization.
        sharding (`Sharding`): how it is spread.
        num_gpus (`int`): R.

    Returns:
        `States`: bytes per GPU.
    """
    if sharding.kind == "zero":
        return _zero_states(size, args, model_args, sharding, num_gpus)
    return _torch_states(size, args, model_args, sharding, num_gpus)


def zero_bytes(num_parameters: int, num_trained: int, stage: int, num_gpus: int) -> tuple[float, float, float]:
    r"""
    Weights, gradients and optimizer states in mixed precision with Adam: 2, 2 and 12 bytes per parameter.

    With $\Psi$ parameters on R GPUs all of it is $4\Psi + 12\Psi/R$ at stage 1, $2\Psi + 14\Psi/R$ at stage 2 and
    $16\Psi/R$ at stage 3 (https://huggingface.co/papers/1910.02054, Sec. 5).
    """
    weights = 2 * num_parameters / (num_gpus if stage >= 3 else 1)
    gradients = 2 * num_trained / (num_gpus if stage >= 2 else 1)
    return weights, gradients, 12 * num_trained / (num_gpus if stage >= 1 else 1)


def _zero_states(size, args, model_args, sharding, num_gpus) -> States:
    num_weights = size.num_parameters + (size.num_trained if size.has_adapters else 0)
    weights, gradients, optimizer = zero_bytes(num_weights, size.num_trained, sharding.stage, num_gpus)
    if not computes_in_half(args):
        weights, gradients = 2 * weights, 2 * gradients
    if model_args.load_in_4bit or model_args.load_in_8bit:
        weights = quantized_bytes(size, model_args)
    buffers = 2 * min(BUCKET_ELEMENTS, size.num_trained)
    if sharding.stage >= 3:
        buffers += 2 * min(LIVE_ELEMENTS, size.num_parameters)
    host = 0.0
    if sharding.offloads_optimizer:
        host, optimizer, gradients = host + optimizer + gradients, 0.0, 0.0
    if sharding.offloads_weights:
        host, weights = host + weights, 0.0
    return States(weights, gradients, optimizer, buffers, host, is_resident=True)


def _torch_states(size, args, model_args, sharding, num_gpus) -> States:
    is_spread = sharding.kind == "fsdp"
    share = num_gpus if is_spread else 1
    per_weight = weight_bytes(args, model_args, size.config.dtype)
    per_trained = trained_bytes(size, args, model_args, sharding)
    base = quantized_bytes(size, model_args) if _is_quantized(model_args) else per_weight * size.num_parameters
    weights = base if size.has_adapters else per_trained * size.num_parameters
    if size.has_adapters:
        weights += per_trained * size.num_trained
    copies = 2 * size.num_trained if per_trained == 4 and computes_in_half(args) and not is_spread else 0
    buffers = per_trained * size.num_trained if sharding.kind == "ddp" else 0
    if is_spread:  # the embeddings and two blocks are gathered at a time
        per_block = (size.num_parameters - size.num_embedding) / size.config.num_hidden_layers
        buffers = 2 * (size.num_embedding + 2 * per_block)
    trained = per_trained * size.num_trained / share
    return States(weights / share + copies, trained, 2 * trained, buffers)


def trained_bytes(size: ModelSize, args: DAPOConfig, model_args: ModelConfig, sharding: Sharding) -> int:
    """Bytes per trained number: PEFT keeps adapters in float32, TRL those of a quantized model in bfloat16."""
    if size.has_adapters:
        return 2 if _is_quantized(model_args) else 4
    if sharding.kind == "fsdp":
        return 4  # accelerate keeps trained weights in float32
    return weight_bytes(args, model_args, size.config.dtype)


def _is_quantized(model_args: ModelConfig) -> bool:
    return model_args.load_in_4bit or model_args.load_in_8bit


def quantized_bytes(size: ModelSize, model_args: ModelConfig) -> float:
    r"""
    Memory of a model whose projections are quantized (https://huggingface.co/papers/2305.14314).

    A scale for each block of 64 numbers costs 4 bytes, or with nested quantization 1 byte and 4 for each 256 scales:
    0.5 or 0.127 bits per parameter. Embeddings, the head and norms keep two bytes.
    """
    if model_args.load_in_8bit:
        per_projection = 1.0
    elif model_args.use_bnb_nested_quant:
        per_projection = 0.5 + 1 / 64 + 4 / (64 * 256)
    else:
        per_projection = 0.5 + 4 / 64
    return per_projection * size.num_projections + 2 * (size.num_parameters - size.num_projections)
