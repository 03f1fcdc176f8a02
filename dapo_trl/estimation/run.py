"""The whole estimate of a recipe on given hardware."""

from dataclasses import dataclass

from .generation import Generator, generation_seconds, plan_generator
from .hardware import Hardware, Sharding
from .memory import Budget, budgets
from .models import ModelSize, model_size
from .recipe import Recipe, read_recipe
from .states import States, model_states
from .training import scoring_seconds, training_seconds
from .workload import Workload, plan_workload


@dataclass(frozen=True)
class Question:
    """
    What to estimate.

    Args:
        recipe (`tuple[str]`): words of the training command, such as `("--config", "recipe.yaml")`.
        hardware (`Hardware`): what it is to run on.
        sharding (`Sharding`): how the model is spread over the trainer's GPUs.
        acceptance (`float`): share of informative groups.
        prompt (`int`): tokens of a usual prompt.
        completion (`int`, *optional*): tokens of a usual completion. None: a quarter of the longest.
        is_sharding_given (`bool`): a configuration of accelerate says `sharding`; otherwise it is assumed.
    """

    recipe: tuple[str, ...]
    hardware: Hardware
    sharding: Sharding
    acceptance: float = 0.5
    prompt: int = 200
    completion: int | None = None
    is_sharding_given: bool = True


@dataclass(frozen=True)
class Estimate:
    """
    What a recipe takes.

    Args:
        recipe (`Recipe`): the recipe.
        size (`ModelSize`): its model.
        sharding (`Sharding`): how the model is spread.
        states (`States`): memory that lasts.
        generator (`Generator`): what generates.
        workload (`Workload`): what a rollout is made of.
        budgets (`list[Budget]`): memory by phase.
        seconds (`dict[str, float]`): time of a rollout by phase.
    """

    recipe: Recipe
    size: ModelSize
    sharding: Sharding
    states: States
    generator: Generator
    workload: Workload
    budgets: list[Budget]
    seconds: dict[str, float]

    @property
    def excess(self) -> float:
        """Bytes missing over all phases, and one more for each token that the model cannot read."""
        return sum(budget.excess for budget in self.budgets) + self.num_unreadable

    @property
    def num_unreadable(self) -> int:
        """Tokens of the longest row beyond what the model was made for."""
        return max(0, self.workload.longest_row - self.size.config.max_position_embeddings)


def estimate(question: Question) -> Estimate:
    """
    Memory and time of a recipe.

    Raises:
        ValueError: for a recipe that the training command would refuse, or a model whose shape cannot be found.
    """
    hardware = question.hardware
    recipe = read_recipe(question.recipe, hardware.num_gpus)
    script_args, args, model_args = recipe
    size = model_size(model_args, args.trust_remote_code)
    states = model_states(size, args, model_args, question.sharding, hardware.num_gpus)
    workload = plan_workload(args, hardware.num_gpus, question.acceptance, question.prompt, question.completion)
    generator = plan_generator(size, args, script_args.vllm_data_parallel_size, hardware, workload)
    return Estimate(
        recipe=recipe,
        size=size,
        sharding=question.sharding,
        states=states,
        generator=generator,
        workload=workload,
        budgets=budgets(size, recipe, states, question.sharding, generator, workload, hardware),
        seconds={
            "generation": generation_seconds(size, generator, hardware, workload),
            "scoring": scoring_seconds(size, args, hardware, workload),
            "training": training_seconds(size, args, hardware, workload),
        },
    )
