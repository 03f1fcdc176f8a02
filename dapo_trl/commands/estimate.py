"""
Estimate the memory and time of a recipe, without any GPU.

```bash
dapo-trl estimate --config recipe.yaml --gpus 8 --gpu-memory 80
```

Fields of the recipe can be given, too, to try them out: `--per_device_train_batch_size 1`. The exit status is 1 if
the recipe does not fit; then the command says which fields to change.
"""

import argparse
import sys
from functools import partial
from typing import Any

from ..estimation import Hardware, Question, estimate, find_remedy, format_estimate, format_problems, read_sharding
from .recipe import make_parser as make_training_parser


def make_parser() -> argparse.ArgumentParser:
    """The options of this command; all other words go to the training command's parser."""
    parser = argparse.ArgumentParser(
        prog="dapo-trl estimate", description="Memory and time of a recipe.", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="the recipe")
    add = partial(_add, parser)
    add("--gpus", type=int, default=1, help="GPUs of the trainer only, without those of a vLLM server")
    add("--gpu-memory", type=float, default=80, help="memory of each GPU in GiB")
    add("--accelerate-config", help="how the processes are started; default: DDP on several GPUs")
    add("--acceptance", type=float, default=0.5, help="share of groups that are informative")
    add("--prompt-length", type=int, default=200, help="tokens of a usual prompt")
    add("--completion-length", type=int, help="tokens of a usual completion; default: a quarter of the longest")
    defaults = Hardware(num_gpus=1, gpu_memory=80)
    peak = "what a GPU computes at best in bfloat16 without sparsity, in TFLOP/s (an A100's if not given)"
    add("--peak", type=float, default=defaults.peak, help=peak)
    add("--mfu", type=float, default=defaults.utilization, help="share of it that training and scoring reach")
    add(
        "--bandwidth",
        type=float,
        default=defaults.bandwidth,
        help="of a GPU's memory, in GB/s (an A100's if not given)",
    )
    utilization = defaults.bandwidth_utilization
    add("--bandwidth-utilization", type=float, default=utilization, help="share of it that generation reaches")
    return parser


def _add(parser: argparse.ArgumentParser, name: str, help: str, **options: Any) -> None:
    """An option with its default in the help. Underscores are taken, too: the fields of a recipe have them."""
    names = dict.fromkeys((name, f"--{name[2:].replace('-', '_')}"))
    if "default" in options:
        help += "; default: %(default)g"
    parser.add_argument(*names, help=help, **options)


def read_question(argv: list[str] | None = None) -> Question:
    """The command line as a question."""
    parser = make_parser()
    argv = sys.argv[1:] if argv is None else argv
    make_training_parser().refuse_unknown_flags(argv, parser._option_string_actions)
    options, fields = parser.parse_known_args(argv)
    for name in ("gpus", "gpu_memory", "prompt_length", "peak", "bandwidth"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0, but is {getattr(options, name)}")
    for name in ("acceptance", "mfu", "bandwidth_utilization"):
        if not 0 < getattr(options, name) <= 1:
            parser.error(
                f"--{name.replace('_', '-')} is a share: above 0 and at most 1, but it is {getattr(options, name)}"
            )
    hardware = Hardware(
        num_gpus=options.gpus,
        gpu_memory=options.gpu_memory,
        peak=options.peak,
        bandwidth=options.bandwidth,
        utilization=options.mfu,
        bandwidth_utilization=options.bandwidth_utilization,
    )
    return Question(
        recipe=("--config", options.config, *fields),
        hardware=hardware,
        sharding=read_sharding(options.accelerate_config, options.gpus),
        acceptance=options.acceptance,
        prompt=options.prompt_length,
        completion=options.completion_length,
        is_sharding_given=options.accelerate_config is not None,
    )


def main(argv: list[str] | None = None) -> None:
    """Parse, estimate, print."""
    question = read_question(argv)
    found = estimate(question)
    sys.stdout.write(format_estimate(question, found))
    if found.excess:
        sys.stdout.write("\n" + format_problems(found, find_remedy(question)))
        sys.exit(1)
