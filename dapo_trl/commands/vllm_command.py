"""
Print the command that starts the vLLM server of a recipe.

```bash
dapo-trl vllm-command --config recipe.yaml
```

It takes the arguments of `dapo-trl train`, and runs on any machine, with or without the recipe's GPUs.
"""

import sys

from ..run.secret_values import mask_logs
from .recipe import load_datasets, load_tokenizer, make_parser, read_recipe


def main(argv: list[str] | None = None) -> None:
    """Parse and print."""
    mask_logs()
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser(words, prog="dapo-trl vllm-command")
    on_any_machine = [] if "--help" in words or "-h" in words else ["--use_cpu", "true"]  # without it, GPUs are needed
    script_args, training_args, model_args = read_recipe(parser, [*words, *on_any_machine])
    from ..generation.vllm.command import format_command, longest_prompt, server_command

    for name, needed in (("use_vllm", True), ("vllm_mode", "server")):
        value = getattr(training_args, name)
        if value != needed:
            raise ValueError(
                f"{name}={value!r}: this recipe needs no server, so there is no command that starts one. Start the "
                "training at once, or set use_vllm to true and vllm_mode to 'server'."
            )
    num_prompt_tokens = 0
    if training_args.vllm_max_model_length is None:  # otherwise it says all that the server must know of lengths
        tokenizer = load_tokenizer(model_args, training_args)
        datasets = load_datasets(script_args, training_args, tokenizer.chat_template is not None)
        num_prompt_tokens = longest_prompt(datasets, tokenizer, training_args.chat_template_kwargs)
    command = server_command(training_args, model_args, num_prompt_tokens, script_args.vllm_data_parallel_size)
    sys.stdout.write(format_command(command) + "\n")
