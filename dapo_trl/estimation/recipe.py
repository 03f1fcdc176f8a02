"""A recipe as it would be on other hardware than this machine's."""

from collections.abc import Sequence
from typing import NamedTuple

from trl import ModelConfig

from ..commands.recipe import DAPOScriptArguments
from ..commands.recipe_parser import RecipeParser
from ..config import DAPOConfig


class Recipe(NamedTuple):
    """What the training command makes of a recipe."""

    script_args: DAPOScriptArguments
    training_args: DAPOConfig
    model_args: ModelConfig


def read_recipe(arguments: Sequence[str], num_processes: int) -> Recipe:
    """
    Reads a recipe as strictly as the training command, for any number of processes and without any GPU.

    Args:
        arguments (`Sequence[str]`): words of a command line, such as `["--config", "recipe.yaml", "--num_generations",
            "8"]`.
        num_processes (`int`): processes of the trainer, R.

    Returns:
        `Recipe`: `use_cpu` is true in it, because otherwise a machine without GPUs refuses bfloat16.

    Raises:
        ValueError: for an unknown key, an impossible value, or a batch that R processes cannot share.
    """
    config_class = type("PlannedConfig", (DAPOConfig,), {"world_size": property(lambda self: num_processes)})
    parser = RecipeParser((DAPOScriptArguments, config_class, ModelConfig), prog="dapo-trl estimate")
    return Recipe(*parser.parse_args_and_config([*arguments, "--use_cpu", "true"]))
