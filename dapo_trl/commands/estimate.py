"""
Estimate the memory and time of a recipe, without any GPU.

```bash
dapo-trl estimate --config recipe.yaml --gpus 8 --gpu-memory 80
```

Fields of the recipe can be given, too, to try them out: `--per_device_train_batch_size 1`. The exit status is 1 if
the recipe does not fit; then the command says which fields to change.
"""

import sys

from ..estimation.scenario import Scenario, options, read_sharding
from .recipe_parser import CommandParser


def make_parser() -> CommandParser:
    """The options of this command; all other words go to the training command's parser."""
    parser = CommandParser(prog="dapo-trl estimate", description="Memory and time of a recipe.", allow_abbrev=False)
    parser.add_argument("--config", required=True, help="the recipe")
    sharding = "how the processes are started; default: DDP on several GPUs"
    parser.add_argument("--accelerate-config", "--accelerate_config", help=sharding)
    for option in options():
        flags = dict.fromkeys((f"--{option.name.replace('_', '-')}", f"--{option.name}"))  # as in a recipe, too
        text = option.metadata["help"] + ("" if option.default is None else "; default: %(default)g")
        kind = float if option.type is float else int
        parser.add_argument(*flags, type=kind, default=option.default, help=text)
    return parser


def read_scenario(argv: list[str] | None = None) -> Scenario:
    """The command line as a scenario."""
    parser = make_parser()
    argv = sys.argv[1:] if argv is None else argv
    given, words = parser.parse_known_args(argv)
    from .recipe import make_parser as make_training_parser  # only now: torch and TRL take seconds to load

    make_training_parser().refuse_unknown_flags(argv, parser._option_string_actions)
    numbers = {option.name: getattr(given, option.name) for option in options()}
    sharding = read_sharding(given.accelerate_config, given.gpus) if given.accelerate_config else None
    return Scenario(recipe=("--config", given.config, *words), sharding=sharding, **numbers)


def main(argv: list[str] | None = None) -> None:
    """Parse, estimate, print."""
    scenario = read_scenario(argv)
    from ..estimation.estimate import estimate, find_remedy
    from ..estimation.report import format_estimate, format_problems

    found = estimate(scenario)
    sys.stdout.write(format_estimate(scenario, found))
    if found.excess:
        sys.stdout.write("\n" + format_problems(found, find_remedy(scenario, found)))
        sys.exit(1)
