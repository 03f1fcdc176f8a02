"""What to change in a recipe that does not fit, tried out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .hardware import Sharding
from .run import Estimate, Question, estimate


Changes = dict[str, object]

ACCELERATE_CONFIG = "accelerate config"
"""Stands among the fields of a recipe for the way in which the processes are started."""

SHARDINGS = {"zero3.yaml": Sharding("zero", 3), "zero3_offload.yaml": Sharding("zero", 3, True, True)}


@dataclass(frozen=True)
class Remedy:
    """
    Changes to a recipe, none of which can be spared.

    Args:
        changes (`Changes`): fields and their values.
        estimate (`Estimate`): the recipe with them.
    """

    changes: Changes
    estimate: Estimate


def find_remedy(question: Question) -> Remedy | None:
    """
    Changes with which a recipe fits.

    Those that leave the result of a training step as it is are tried first, then those that change what is learned.

    Returns:
        `Remedy`, or None if none of the known changes suffices.
    """
    changes: Changes = {}
    current = estimate(question)
    for attempt in _ATTEMPTS:
        for step in attempt(current, question.hardware.num_gpus):
            candidate = _estimate_with(question, changes | step)
            if candidate is not None and candidate.excess < current.excess:
                changes, current = changes | step, candidate
            if current.excess == 0:
                return _without_needless(question, Remedy(changes, current))
    return None


def _without_needless(question: Question, remedy: Remedy) -> Remedy:
    for name in list(remedy.changes):
        fewer = {other: value for other, value in remedy.changes.items() if other != name}
        candidate = _estimate_with(question, fewer)
        if candidate is not None and candidate.excess == 0:
            remedy = Remedy(fewer, candidate)
    return remedy


def _estimate_with(question: Question, changes: Changes) -> Estimate | None:
    """None if the recipe cannot be changed like that."""
    fields = {name: value for name, value in changes.items() if name != ACCELERATE_CONFIG}
    words = tuple(word for name, value in fields.items() for word in (f"--{name}", str(value)))
    sharding = SHARDINGS.get(changes.get(ACCELERATE_CONFIG), question.sharding)
    try:
        return estimate(replace(question, recipe=question.recipe + words, sharding=sharding))
    except ValueError:
        return None


def _compute_twice(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    yield {"gradient_checkpointing": True}


def _sleep(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if now.generator.kind == "colocate":
        yield {"vllm_enable_sleep_mode": True}


def _smaller_micro_batches(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    args = now.recipe.training_args
    rows, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    while rows % 2 == 0:
        rows, accumulated = rows // 2, accumulated * 2
        yield {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}


def _spread(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if num_gpus > 1 and not now.size.has_adapters:
        yield {ACCELERATE_CONFIG: "zero3.yaml"}


def _share_of_vllm(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if now.generator.kind == "colocate":
        for percent in range(90, 10, -5):
            yield {"vllm_gpu_memory_utilization": percent / 100}


def _more_gpus_per_copy(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    tensor, copies = now.generator.gpus_per_copy, now.generator.num_copies
    while now.generator.kind != "transformers" and copies % 2 == 0:
        tensor, copies = 2 * tensor, copies // 2
        of_server = {"vllm_data_parallel_size": copies} if now.generator.kind == "server" else {}
        yield {"vllm_tensor_parallel_size": tensor} | of_server


def _offload(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if not now.size.has_adapters:
        yield {ACCELERATE_CONFIG: "zero3_offload.yaml"}


def _without_vllm(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if now.generator.kind == "colocate":
        yield {"use_vllm": False}


def _shorter_completions(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    args, workload = now.recipe.training_args, now.workload
    lengths = [workload.longest_completion >> k for k in (1, 2, 3)]
    if now.num_unreadable:
        lengths.insert(0, workload.longest_completion - now.num_unreadable)
    for length in lengths:
        changes: Changes = {"max_completion_length": length}
        if args.soft_punish_cache is not None:
            changes["soft_punish_cache"] = length * args.soft_punish_cache // workload.longest_completion
        if args.vllm_max_model_length is not None:
            changes["vllm_max_model_length"] = workload.longest_prompt + length
        yield changes


def _adapters(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if not now.size.has_adapters:
        yield {"use_peft": True, "lora_target_modules": "all-linear", "dtype": "bfloat16"}


def _four_bits(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    if now.size.has_adapters and now.sharding.stage < 3 and now.sharding.kind != "fsdp":
        # TRL's colocated vLLM would have to take 4-bit weights, too.
        without = {"use_vllm": False} if now.generator.kind == "colocate" else {}
        yield {"load_in_4bit": True, "dtype": "bfloat16"} | without


_ATTEMPTS = (
    _compute_twice,
    _sleep,
    _smaller_micro_batches,
    _share_of_vllm,
    _spread,
    _more_gpus_per_copy,
    _without_vllm,
    _offload,
    _shorter_completions,
    _adapters,
    _four_bits,
)
