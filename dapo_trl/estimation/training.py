"""Time to score a rollout and to train on it."""

from ..config import DAPOConfig
from .hardware import Hardware
from .models import ModelSize
from .workload import Workload


def forward_flops(size: ModelSize, num_tokens: float, row: int) -> float:
    r"""
    Floating-point operations of a forward pass.

    Each token is multiplied with every parameter, 2 operations each, and each query with the keys and values of on
    average half of its row: $2N + 2 L d_q T$.

    Args:
        size (`ModelSize`): N, L layers, queries of width d_q.
        num_tokens (`float`): tokens of all rows.
        row (`int`): tokens of a row, T.
    """
    attention = 2 * size.config.num_hidden_layers * size.query_width * row
    return num_tokens * (2 * size.num_multiplied + attention)


def passes_per_step(size: ModelSize, args: DAPOConfig) -> int:
    """
    What forward and backward cost, in forward passes: the backward pass computes gradients of inputs and of weights,
    but not of frozen weights; gradient checkpointing adds a forward pass.
    """
    backward = 1 if size.has_adapters else 2
    return 1 + backward + (1 if args.gradient_checkpointing else 0)


def training_seconds(size: ModelSize, args: DAPOConfig, hardware: Hardware, workload: Workload) -> float:
    """Time of all optimizer steps of a rollout."""
    flops = forward_flops(size, workload.num_trained * workload.row, workload.row)
    return hardware.seconds_to_compute(args.num_iterations * passes_per_step(size, args) * flops, hardware.num_gpus)


def scoring_seconds(size: ModelSize, args: DAPOConfig, hardware: Hardware, workload: Workload) -> float:
    """Time of the old log-probabilities, and of those of the reference model with a KL term."""
    flops = forward_flops(size, workload.num_trained * workload.row, workload.row)
    return hardware.seconds_to_compute(num_scorings(args) * flops, hardware.num_gpus)


def num_scorings(args: DAPOConfig) -> int:
    """
    Forward passes over a rollout before it is trained on.

    TRL spares old log-probabilities where the first update is the only one and nothing is corrected.
    """
    is_on_policy = args.updates_per_rollout * args.num_iterations == 1
    is_corrected = args.use_vllm and args.vllm_importance_sampling_correction
    return (0 if is_on_policy and not is_corrected else 1) + (1 if args.beta else 0)
