"""Memory of one micro-batch on one GPU."""

from dataclasses import dataclass

from ..config import DAPOConfig
from .models import ModelSize


TILE = 4096 * 32768
"""TRL's fused head holds logits of 4096 tokens and 32768 words at a time."""


@dataclass(frozen=True)
class Activations:
    """
    Bytes at the peak of a forward and backward pass.

    Args:
        saved (`float`): what the forward pass keeps for the backward pass.
        working (`float`): of one block while its gradients are computed.
        head (`float`): of the language modelling head. No logits are kept.
    """

    saved: float
    working: float
    head: float

    @property
    def total(self) -> float:
        """The peak: the head and a block are never worked on at once."""
        return self.saved + max(self.working, self.head)


def activations(
    size: ModelSize, args: DAPOConfig, num_rows: int, num_tokens: int, residual_bytes: int, number_bytes: int = 2
) -> Activations:
    """
    Memory of a micro-batch of B rows with T tokens each.

    Args:
        size (`ModelSize`): the model.
        args (`DAPOConfig`): gradient checkpointing.
        num_rows (`int`): B.
        num_tokens (`int`): T, prompt, completion and padding.
        residual_bytes (`int`): bytes per number between the blocks: those of the weights, unless DeepSpeed casts them.
        number_bytes (`int`, *optional*, defaults to 2): bytes per number that is computed.
    """
    config, total = size.config, num_rows * num_tokens
    block = block_bytes_per_token(size, residual_bytes, number_bytes) * total
    transient = total * (3 * number_bytes * config.intermediate_size + 2 * residual_bytes * config.hidden_size)
    saved = config.num_hidden_layers * block
    working = transient
    if args.gradient_checkpointing:
        saved = config.num_hidden_layers * total * residual_bytes * config.hidden_size
        working = block + transient
    head = number_bytes * TILE + total * config.hidden_size * (number_bytes + 4)
    if not size.has_adapters:
        head += 4 * config.vocab_size * config.hidden_size  # the head's gradient is summed in float32
    return Activations(saved, working, head)


def block_bytes_per_token(size: ModelSize, residual_bytes: int, number_bytes: int = 2) -> float:
    """
    Bytes that one block keeps for its backward pass: two norms, attention that keeps no matrix of scores, a gated MLP.

    With float32 weights under autocast, or float32 adapters, each projection keeps a cast copy of its input; with
    adapters the norms are not trained and keep less.
    """
    config = size.config
    hidden, queries = config.hidden_size, size.query_width
    keys = config.num_key_value_heads * size.head_dim
    has_casts = number_bytes == 2 and (residual_bytes == 4 or size.has_adapters)
    norms = 2 * hidden * (4 + (0 if size.has_adapters else residual_bytes)) + 8
    inputs = number_bytes * hidden * (5 if has_casts else 2)
    attention = number_bytes * (2 * queries + 2 * keys) + 4 * config.num_attention_heads
    if size.has_adapters:
        attention += number_bytes * queries
    return norms + inputs + attention + number_bytes * 4 * config.intermediate_size


def mask_bytes(is_flash: bool, num_rows: int, num_tokens: int) -> float:
    """Bytes of the mask of padded rows, `(B, T, T)`, as booleans and as numbers; FlashAttention needs none."""
    return 0.0 if is_flash else 3.0 * num_rows * num_tokens**2
