"""The command `dapo-trl`, or `python -m dapo_trl`: a subcommand for each thing to do before, in and after a run."""

import importlib
import sys

from . import __version__
from .commands.command_line import errors_in_one_line


COMMANDS = {
    "train": ("train", "train a model with DAPO from a recipe"),
    "vllm-command": ("commands.vllm_command", "print the command of the vLLM server that a recipe needs"),
    "estimate": ("commands.estimate", "say what fits on the GPUs, and how long a rollout takes"),
    "prepare-data": ("commands.prepare_data", "remove duplicates, limit lengths, check every reference answer"),
    "evaluate": ("commands.evaluate", "avg@k, maj@k and pass@j of a model, with intervals"),
    "compare": ("commands.compare", "compare two evaluations, problem by problem"),
    "report": ("commands.report", "one page about a run, or several"),
    "model-card": ("commands.model_card", "write the model card again, and push it"),
    "merge-adapter": ("commands.merge_adapter", "merge a LoRA adapter into its base model"),
}
"""Module of each subcommand, whose `main` takes the arguments that follow, and what it does."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return (
        f"usage: dapo-trl <command> [options]\n\nDAPO as a Hugging Face TRL trainer.\n\n{listed}\n\n"
        "`dapo-trl <command> --help` shows the options that one needs first, `--help all` every one.\n"
        "On several GPUs, train by `accelerate launch -m dapo_trl.train --config <recipe>`.\n"
    )


def main(argv: list[str] | None = None) -> None:
    """
    Runs the subcommand that the first argument names.

    Raises:
        SystemExit: with status 2 and one line on stderr, for an unknown command and for what a command refuses.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("--help", "-h"):
        sys.stdout.write(usage())
    elif name == "--version":
        sys.stdout.write(f"dapo_trl {__version__}\n")
    elif name == "train":
        if arguments in (["--help"], ["-h"]):  # without the seconds that the trainer takes to import
            recipe = importlib.import_module(".commands.recipe", __package__)
            recipe.make_parser(arguments, "dapo-trl train").parse(arguments)
        # What goes wrong after parsing keeps its traceback.
        importlib.import_module(".train", __package__).main(arguments, while_parsing=errors_in_one_line)
    else:
        with errors_in_one_line():
            if name not in COMMANDS:
                raise ValueError(f"`{name}` is no command. Give one of: {', '.join(COMMANDS)}.")
            importlib.import_module(f".{COMMANDS[name][0]}", __package__).main(arguments)


if __name__ == "__main__":
    main()
