"""What a rollout is made of, what generates it, and how long it takes."""

import math
from typing import NamedTuple

from ..config import DAPOConfig
from ..sampling.refill import equal_share_multiple, round_size
from .model import ModelSize
from .scenario import GIB, Scenario


SERVER_UTILIZATION = 0.9  # share of a GPU's memory that a vLLM server takes by default
MAX_SEQUENCES = 256  # completions that a vLLM server runs at once by default
ENGINE_OVERHEAD = 1.5 * GIB  # of vLLM beside weights, keys and values: activations of 4096 tokens, CUDA graphs
TOKEN_SECONDS = {"vllm": 0.005, "transformers": 0.03}  # least time for one token of all running completions


class Rollout(NamedTuple):
    """Completions of a rollout, and their tokens."""

    num_trained: int  # completions that are trained on
    num_generated: int  # completions that are generated to find them
    prompt: int  # tokens of a usual prompt
    completion: int  # tokens of a usual completion
    longest_prompt: int
    longest_completion: int

    @property
    def row(self) -> int:
        """Tokens of a usual prompt with its completion."""
        return self.prompt + self.completion

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt with the longest completion."""
        return self.longest_prompt + self.longest_completion


class Generator(NamedTuple):
    """What generates a rollout."""

    kind: str  # "server", "colocate" or "transformers"
    num_copies: int  # of the model, which work side by side
    gpus_per_copy: int
    weight_bytes: float  # of one copy
    kv_bytes_per_token: int
    kv_bytes: float  # what a copy has for keys and values on all its GPUs; negative if the weights do not fit
    max_rows: int  # completions that a copy may run at once

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values a copy can hold."""
        return max(0, int(self.kv_bytes // self.kv_bytes_per_token))

    def num_running(self, tokens_per_row: int) -> int:
        """Completions that a copy runs at once."""
        return max(1, min(self.max_rows, self.kv_tokens // tokens_per_row))


def plan_rollout(args: DAPOConfig, scenario: Scenario) -> Rollout:
    """The rollout of a recipe. Without dynamic sampling the acceptance rate does not matter."""
    longest, limit = args.max_completion_length, args.vllm_max_model_length
    if longest is None:
        raise ValueError(
            "max_completion_length is not set, so completions have no limit. Set it to a number of tokens."
        )
    longest_prompt = max(512, scenario.prompt_length) if limit is None else limit - longest
    if longest_prompt <= 0:
        raise ValueError(
            f"vllm_max_model_length={limit} tokens leave no room for a prompt beside max_completion_length={longest}. "
            "Raise the one by the tokens of the longest prompt, or lower the other."
        )
    assert args.generation_batch_size and args.num_generations  # GRPOConfig sets them
    num_groups, acceptance = args.prompts_per_rollout, scenario.acceptance
    if args.dynamic_sampling:
        bound = int(args.max_oversampling * num_groups)
        multiple = equal_share_multiple(args.num_generations, scenario.gpus)
        first_round = round_size(num_groups, acceptance, bound, multiple)
        num_groups = max(first_round, min(round(num_groups / acceptance), args.max_rounds * bound))
    return Rollout(
        num_trained=args.generation_batch_size,
        num_generated=num_groups * args.num_generations,
        prompt=min(scenario.prompt_length, longest_prompt),
        completion=min(scenario.completion_length or max(1, longest // 4), longest),
        longest_prompt=longest_prompt,
        longest_completion=longest,
    )


def plan_generator(
    size: ModelSize, args: DAPOConfig, num_server_copies: int, rollout: Rollout, scenario: Scenario
) -> Generator:
    """What generates the rollouts of a recipe; `num_server_copies` is its `vllm_data_parallel_size`."""
    assert args.steps_per_generation  # GRPOConfig sets it
    rows_per_process = args.per_device_train_batch_size * args.steps_per_generation
    weight_bytes, kv_bytes_per_token = size.computed_bytes * size.num_parameters, size.kv_bytes_per_token
    if not args.use_vllm:
        kv_bytes = rows_per_process * rollout.longest_row * kv_bytes_per_token
        return Generator(
            "transformers", scenario.gpus, 1, weight_bytes, kv_bytes_per_token, kv_bytes, rows_per_process
        )
    gpus_per_copy, is_server = args.vllm_tensor_parallel_size, args.vllm_mode == "server"
    share = SERVER_UTILIZATION if is_server else args.vllm_gpu_memory_utilization
    return Generator(
        kind=args.vllm_mode,
        num_copies=num_server_copies if is_server else max(1, scenario.gpus // gpus_per_copy),
        gpus_per_copy=gpus_per_copy,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=kv_bytes_per_token,
        kv_bytes=gpus_per_copy * (share * scenario.gpu_memory * GIB - ENGINE_OVERHEAD) - weight_bytes,
        max_rows=MAX_SEQUENCES if is_server else rows_per_process * gpus_per_copy,
    )


# Time


def rollout_seconds(
    size: ModelSize, args: DAPOConfig, generator: Generator, rollout: Rollout, scenario: Scenario
) -> dict[str, float]:
    """Seconds of each phase of a rollout; all of its optimizer steps are one phase."""
    flops = forward_flops(size, rollout.num_trained * rollout.row, rollout.row)
    num_passes = args.num_iterations * passes_per_step(size, args)
    return {
        "generation": generation_seconds(size, generator, rollout, scenario),
        "scoring": compute_seconds(num_scorings(args) * flops, scenario.gpus, scenario),
        "training": compute_seconds(num_passes * flops, scenario.gpus, scenario),
    }


def compute_seconds(flops: float, num_gpus: int, scenario: Scenario) -> float:
    """Time of so many floating-point operations on so many GPUs."""
    return flops / (num_gpus * scenario.peak * 1e12 * scenario.mfu)


def forward_flops(size: ModelSize, num_tokens: float, row: int) -> float:
    r"""
    Floating-point operations of a forward pass over rows of T = `row` tokens, `num_tokens` in all.

    Each token is multiplied with every parameter, 2 operations each, and in each of L layers a query of width $d_q$
    with the keys and values of on average half of its row: $2N + 2 L d_q T$ per token.
    """
    attention = 2 * size.config.num_hidden_layers * size.query_width * row
    return num_tokens * (2 * size.num_multiplied + attention)


def passes_per_step(size: ModelSize, args: DAPOConfig) -> int:
    """
    Cost of forward and backward in forward passes: the backward pass computes gradients of inputs and of weights, but
    not of frozen weights; gradient checkpointing adds a forward pass.
    """
    return 1 + (1 if size.has_adapters else 2) + (1 if args.gradient_checkpointing else 0)


def num_scorings(args: DAPOConfig) -> int:
    """
    Forward passes over a rollout before it is trained on: old log-probabilities, and the reference model's with a KL
    term. TRL spares the old ones where the first update is the only one and nothing is corrected.
    """
    is_corrected = args.use_vllm and args.vllm_importance_sampling_correction
    has_old = args.optimizer_steps_per_rollout > 1 or is_corrected
    return (1 if has_old else 0) + (1 if args.beta else 0)


def generation_seconds(size: ModelSize, generator: Generator, rollout: Rollout, scenario: Scenario) -> float:
    """
    Time to generate a rollout, in waves of as many completions as run at once.

    The longest completion goes on alone when the usual ones have ended; with Transformers all rows of a wave go on
    until the longest has ended.
    """
    rows_per_copy = math.ceil(rollout.num_generated / generator.num_copies)
    running = min(rows_per_copy, generator.num_running(rollout.row))
    num_waves = rows_per_copy / running
    seconds = token_seconds(size, generator, running, rollout.row, scenario)
    if generator.kind == "transformers":
        return math.ceil(num_waves) * rollout.longest_completion * seconds
    alone = token_seconds(size, generator, 1, rollout.longest_row, scenario)
    return num_waves * rollout.completion * seconds + (rollout.longest_completion - rollout.completion) * alone


def token_seconds(size: ModelSize, generator: Generator, running: int, tokens: int, scenario: Scenario) -> float:
    """
    Time for one token of each of so many running completions with so many tokens each: to read the weights, keys and
    values once, or to compute, whichever is longer.
    """
    num_bytes = generator.weight_bytes + running * tokens * generator.kv_bytes_per_token
    bandwidth = generator.gpus_per_copy * scenario.bandwidth * 1e9 * scenario.bandwidth_utilization
    computing = compute_seconds(2 * size.num_multiplied * running, generator.gpus_per_copy, scenario)
    program = TOKEN_SECONDS["transformers" if generator.kind == "transformers" else "vllm"]
    return max(num_bytes / bandwidth, computing) + program
