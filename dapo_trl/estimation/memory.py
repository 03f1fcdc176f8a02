"""What stands in the memory of a GPU in each phase of a rollout."""

from typing import NamedTuple

from ..config import DAPOConfig
from .model import ModelSize
from .rollout import ENGINE_OVERHEAD, SERVER_UTILIZATION, Generator, Rollout
from .scenario import GIB, Scenario, Sharding


RESERVE = 1.5 * GIB  # CUDA's own memory, NCCL's, and what the allocator cannot use
ASLEEP = 0.5 * GIB  # what a sleeping vLLM keeps: its CUDA graphs
BUCKET_ELEMENTS = 500_000_000  # DeepSpeed's default bucket, in which gradients are reduced
LIVE_ELEMENTS = 1_000_000_000  # DeepSpeed's default bound on the parameters that ZeRO-3 holds gathered
HEAD_CHUNK = 4096 * 32768  # TRL's fused head holds logits of 4096 tokens and 32768 words at a time


class Budget(NamedTuple):
    """Bytes of one GPU in one phase, by what they are for, and bytes that there are."""

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


class States(NamedTuple):
    """Bytes that last from step to step, for each process."""

    weights: float  # with the copies that autocast makes during a forward pass
    gradients: float
    optimizer: float  # AdamW's states, with float32 weights of its own where it has them
    buffers: float  # for communication
    host: float = 0.0  # in CPU memory; all others are on the GPU


def budgets(
    size: ModelSize,
    args: DAPOConfig,
    states: States,
    sharding: Sharding,
    generator: Generator,
    rollout: Rollout,
    scenario: Scenario,
) -> list[Budget]:
    """The phases of a rollout in their order, each on the GPUs it runs on."""
    limit, tokens = scenario.gpu_memory * GIB, rollout.longest_row
    lasting = {"weights": states.weights, "optimizer": states.optimizer, "buffers": states.buffers}
    generating, training = dict(lasting), lasting | {"gradients": states.gradients}
    if sharding.kind == "zero":  # DeepSpeed keeps its gradients
        generating["gradients"] = states.gradients
    training["activations"] = activation_bytes(size, args, sharding, tokens)
    if generator.kind == "transformers":
        generating["keys and values"] = generator.kv_bytes
        # With padded rows, attention holds a layer's keys and values once more, for each of the queries' heads.
        generating["working memory"] = generator.max_rows * tokens * 2 * size.query_width * size.computed_bytes
        if sharding.spreads_weights:
            generating["gathered weights"] = generator.weight_bytes
    share = (SERVER_UTILIZATION if generator.kind == "server" else args.vllm_gpu_memory_utilization) * limit
    if generator.kind == "colocate":
        generating["vLLM's share"] = share
        training["vLLM's share"] = ASLEEP if args.vllm_enable_sleep_mode else share
    of_vllm = {
        "weights": generator.weight_bytes / generator.gpus_per_copy,
        "longest completion": tokens * generator.kv_bytes_per_token / generator.gpus_per_copy,
        "engine": ENGINE_OVERHEAD,
    }
    of_training = Budget("Training", training | {"reserve": RESERVE}, limit)
    of_trainer = Budget("Generation (trainer)", generating | {"reserve": RESERVE}, limit)
    return {
        "server": [Budget("Generation (server)", of_vllm, share), of_training],
        "colocate": [Budget("Generation (vLLM's share)", of_vllm, share), of_trainer, of_training],
        "transformers": [of_trainer, of_training],
    }[generator.kind]


# Weights, gradients and optimizer


def model_states(size: ModelSize, sharding: Sharding, num_gpus: int) -> States:
    """Memory of weights, gradients and optimizer on each of R = `num_gpus` GPUs."""
    if sharding.kind == "zero":
        return _zero_states(size, sharding, num_gpus)
    is_spread = sharding.kind == "fsdp"
    share = num_gpus if is_spread else 1
    if size.has_adapters:  # PEFT keeps adapters in float32, TRL those of a quantized model in bfloat16
        per_trained = 2 if size.is_quantized else 4
        weights = size.base_bytes + per_trained * size.num_trained
    else:  # accelerate keeps trained weights in float32 with FSDP
        per_trained = 4 if is_spread else size.weight_bytes
        weights = per_trained * size.num_parameters
    copies = 2 * size.num_trained if per_trained == 4 and size.computed_bytes == 2 and not is_spread else 0
    buffers = per_trained * size.num_trained if sharding.kind == "ddp" else 0.0
    if is_spread:  # the embeddings and two blocks are gathered at a time
        per_block = (size.num_parameters - size.num_embedding) / size.config.num_hidden_layers
        buffers = 2 * (size.num_embedding + 2 * per_block)
    gradients = per_trained * size.num_trained / share
    return States(weights / share + copies, gradients, optimizer=2 * gradients, buffers=buffers)


def zero_bytes(num_parameters: int, num_trained: int, stage: int, num_gpus: int) -> tuple[float, float, float]:
    r"""
    Weights, gradients and optimizer states in mixed precision with Adam: 2, 2 and 12 bytes per parameter.

    With $\Psi$ parameters on R GPUs all of it is $4\Psi + 12\Psi/R$ at stage 1, $2\Psi + 14\Psi/R$ at stage 2 and
    $16\Psi/R$ at stage 3 (https://huggingface.co/papers/1910.02054, Sec. 5).
    """
    weights = 2 * num_parameters / (num_gpus if stage >= 3 else 1)
    gradients = 2 * num_trained / (num_gpus if stage >= 2 else 1)
    return weights, gradients, 12 * num_trained / (num_gpus if stage >= 1 else 1)


def _zero_states(size: ModelSize, sharding: Sharding, num_gpus: int) -> States:
    num_weights = size.num_parameters + (size.num_trained if size.has_adapters else 0)
    weights, gradients, optimizer = zero_bytes(num_weights, size.num_trained, sharding.stage, num_gpus)
    weights, gradients = weights * size.computed_bytes / 2, gradients * size.computed_bytes / 2
    if size.is_quantized:
        weights = size.base_bytes
    buffers = 2 * min(BUCKET_ELEMENTS, size.num_trained)
    if sharding.stage >= 3:
        buffers += 2 * min(LIVE_ELEMENTS, size.num_parameters)
    host = 0.0
    if sharding.offloads_optimizer:
        host, optimizer, gradients = optimizer + gradients, 0.0, 0.0
    if sharding.offloads_weights:
        host, weights = host + weights, 0.0
    return States(weights, gradients, optimizer, buffers, host)


# One micro-batch


def activation_bytes(size: ModelSize, args: DAPOConfig, sharding: Sharding, num_tokens: int) -> float:
    """
    Peak of a forward and backward pass over a micro-batch of rows with T = `num_tokens` tokens each, padding included.

    It is what the forward pass keeps, with what one block or the language modelling head works with: those two are
    never worked on at once. No logits are kept.
    """
    config, total = size.config, args.per_device_train_batch_size * num_tokens
    computed = size.computed_bytes
    # Numbers between the blocks have the type of the weights, unless DeepSpeed or FSDP casts them.
    residual = computed if sharding.kind in ("zero", "fsdp") else size.weight_bytes
    block = block_bytes_per_token(size, residual) * total
    working = total * (3 * computed * config.intermediate_size + 2 * residual * config.hidden_size)
    kept = config.num_hidden_layers * block
    if args.gradient_checkpointing:
        kept = config.num_hidden_layers * total * residual * config.hidden_size
        working += block
    head = computed * HEAD_CHUNK + total * config.hidden_size * (computed + 4)
    if not size.has_adapters:
        head += 4 * config.vocab_size * config.hidden_size  # the head's gradient is summed in float32
    # The mask of padded rows, (B, T, T), as booleans and as numbers; FlashAttention needs none.
    mask = 0 if size.has_flash_attention else 3 * total * num_tokens
    return kept + max(working, head) + mask


def block_bytes_per_token(size: ModelSize, residual_bytes: int) -> float:
    """
    Bytes that one block keeps for its backward pass: two norms, attention that keeps no matrix of scores, a gated MLP.

    With float32 weights under autocast, or float32 adapters, each projection keeps a cast copy of its input; with
    adapters the norms are not trained and keep less. Numbers between the blocks have `residual_bytes`.
    """
    config, computed = size.config, size.computed_bytes
    keys = config.num_key_value_heads * size.head_dim
    has_casts = computed == 2 and (residual_bytes == 4 or size.has_adapters)
    norms = 2 * config.hidden_size * (4 + (0 if size.has_adapters else residual_bytes)) + 8
    inputs = computed * config.hidden_size * (5 if has_casts else 2)
    attention = computed * ((3 if size.has_adapters else 2) * size.query_width + 2 * keys)
    return norms + inputs + attention + 4 * config.num_attention_heads + computed * 4 * config.intermediate_size
