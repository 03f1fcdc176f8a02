"""Memory and time of a recipe, and what to change if it does not fit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from trl import ModelConfig

from ..commands.recipe import DAPOScriptArguments
from ..commands.recipe_parser import RecipeParser
from ..config import DAPOConfig
from .memory import Budget, States, budgets, model_states
from .model import ModelSize, model_size
from .rollout import Generator, Rollout, plan_generator, plan_rollout, rollout_seconds
from .scenario import Scenario, Sharding


class Recipe(NamedTuple):
    """What the training command makes of a recipe."""

    script_args: DAPOScriptArguments
    training_args: DAPOConfig
    model_args: ModelConfig


class Estimate(NamedTuple):
    """What a recipe takes."""

    recipe: Recipe
    size: ModelSize
    sharding: Sharding
    states: States
    rollout: Rollout
    generator: Generator
    budgets: list[Budget]  # memory by phase
    seconds: dict[str, float]  # of a rollout by phase

    @property
    def excess(self) -> float:
        """Bytes missing over all phases; 0 if it fits."""
        return sum(budget.excess for budget in self.budgets)


def read_recipe(arguments: Sequence[str], num_processes: int) -> Recipe:
    """Reads a recipe as strictly as the training command, for any number of processes and without any GPU."""
    config_class = type("PlannedConfig", (DAPOConfig,), {"world_size": property(lambda self: num_processes)})
    parser = RecipeParser((DAPOScriptArguments, config_class, ModelConfig), prog="dapo-trl estimate")
    return Recipe(*parser.parse_args_and_config([*arguments, "--use_cpu", "true"]))


def estimate(scenario: Scenario) -> Estimate:
    """Memory and time of a recipe."""
    recipe = read_recipe(scenario.recipe, scenario.gpus)
    script_args, args, model_args = recipe
    sharding = scenario.sharding or Sharding("none" if scenario.gpus == 1 else "ddp")
    size = model_size(model_args, args)
    states = model_states(size, sharding, scenario.gpus)
    rollout = plan_rollout(args, scenario)
    generator = plan_generator(size, args, script_args.vllm_data_parallel_size, rollout, scenario)
    memory = budgets(size, args, states, sharding, generator, rollout, scenario)
    seconds = rollout_seconds(size, args, generator, rollout, scenario)
    return Estimate(recipe, size, sharding, states, rollout, generator, memory, seconds)


# What to change


Changes = dict[str, Any]

# Stands among the fields of a recipe for the way in which the processes are started.
ACCELERATE_CONFIG = "accelerate config"

SHARDINGS = {"zero3.yaml": Sharding("zero", 3), "zero3_offload.yaml": Sharding("zero", 3, True, True)}


def find_remedy(scenario: Scenario, first: Estimate) -> tuple[Changes, Estimate] | None:
    """
    Changes with which a recipe fits, and the estimate with them; None if no known change suffices.

    Those that leave the result of a training step as it is are tried first, then those that change what is learned.
    Each is kept if it helps, and at last dropped if the others suffice. `first` is the estimate without any.
    """
    steps: list[Changes] = []
    excess = first.excess
    for step in _candidates(first, scenario.gpus):
        found = _estimate_with(scenario, [*steps, step])
        if found is not None and found.excess < excess:
            steps.append(step)
            excess = found.excess
        if excess == 0:
            break
    else:
        return None
    for step in list(steps):
        others = [other for other in steps if other is not step]
        found = _estimate_with(scenario, others)
        if found is not None and found.excess == 0:
            steps = others
    found = _estimate_with(scenario, steps)
    assert found is not None  # it was possible above
    return _merge(steps), found


def _merge(steps: list[Changes]) -> Changes:
    return {name: value for step in steps for name, value in step.items()}


def _estimate_with(scenario: Scenario, steps: list[Changes]) -> Estimate | None:
    """None if the recipe cannot be changed like that."""
    changes = _merge(steps)
    sharding = SHARDINGS.get(changes.pop(ACCELERATE_CONFIG, ""), scenario.sharding)
    words = tuple(word for name, value in changes.items() for word in (f"--{name}", str(value)))
    try:
        found = estimate(replace(scenario, recipe=scenario.recipe + words, sharding=sharding))
    except ValueError:
        return None
    # Quantized weights can neither be trained nor spread.
    is_possible = found.size.has_adapters and not found.sharding.spreads_weights
    return found if is_possible or "load_in_4bit" not in changes else None


def _candidates(now: Estimate, num_gpus: int) -> Iterator[Changes]:
    """Changes to try in turn, each on top of those that have helped before it."""
    is_colocated, has_adapters = now.generator.kind == "colocate", now.size.has_adapters
    shares = [{"vllm_gpu_memory_utilization": percent / 100} for percent in range(90, 10, -5)] if is_colocated else []
    yield {"gradient_checkpointing": True}
    if is_colocated:
        yield {"vllm_enable_sleep_mode": True}
    yield from _smaller_micro_batches(now)
    yield from shares
    if num_gpus > 1 and not has_adapters:
        yield {ACCELERATE_CONFIG: "zero3.yaml"}
    yield from _more_gpus_per_copy(now)
    without_vllm = {"use_vllm": False} if is_colocated else {}
    yield without_vllm
    if not has_adapters:
        yield {ACCELERATE_CONFIG: "zero3_offload.yaml"}
    yield from shares  # the trainer leaves more to vLLM now
    yield from _shorter_completions(now)
    if not has_adapters:
        yield {"use_peft": True, "lora_target_modules": "all-linear", "dtype": "bfloat16"}
    yield from shares
    # TRL's colocated vLLM would have to take 4-bit weights, too.
    yield {"load_in_4bit": True, "dtype": "bfloat16", **without_vllm}


def _smaller_micro_batches(now: Estimate) -> Iterator[Changes]:
    args = now.recipe.training_args
    rows, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    while rows % 2 == 0:
        rows, accumulated = rows // 2, accumulated * 2
        yield {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}


def _more_gpus_per_copy(now: Estimate) -> Iterator[Changes]:
    gpus, copies = now.generator.gpus_per_copy, now.generator.num_copies
    while now.generator.kind != "transformers" and copies % 2 == 0:
        gpus, copies = 2 * gpus, copies // 2
        of_server = {"vllm_data_parallel_size": copies} if now.generator.kind == "server" else {}
        yield {"vllm_tensor_parallel_size": gpus} | of_server


def _shorter_completions(now: Estimate) -> Iterator[Changes]:
    args, longest = now.recipe.training_args, now.rollout.longest_completion
    for length in (longest // 2, longest // 4, longest // 8):
        changes = {"max_completion_length": length}
        if args.soft_punish_cache is not None:
            changes["soft_punish_cache"] = length * args.soft_punish_cache // longest
        if args.vllm_max_model_length is not None:
            changes["vllm_max_model_length"] = now.rollout.longest_prompt + length
        yield changes
