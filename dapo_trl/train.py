"""
Train a model with DAPO from a YAML recipe.

```bash
accelerate launch --config_file recipes/accelerate_configs/zero3.yaml -m dapo_trl.train --config recipe.yaml
```

Every field can be given on the command line too (`--learning_rate 1e-6`), where it beats the recipe.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.hf_argparser import string_to_bool
from trl import ModelConfig, get_peft_config, get_quantization_config

from .checks.model import check_quantization
from .commands.command_line import errors_in_one_line
from .commands.recipe_parser import RecipeParser
from .config import DAPOConfig
from .data import check_dataset, load_prompts
from .distributed.failed_rank import failing_after_other_ranks, follow_launcher
from .generation.vllm import check_weight_transfer, format_command, longest_prompt, server_command
from .hub.recipe import save_recipe
from .rewards import AccuracyReward, load_reward
from .rewards.answers import THINKING_TAGS
from .run.checkpoint import is_complete, is_finished, last_complete_checkpoint, mark_finished, unmark_finished
from .run.early_end import NOTHING_TRAINED, NothingTrainedError
from .run.preemption import EXIT_CODE, mark_preempted, unmark_preempted
from .run.secret_values import mask_logs, mask_text, mask_words, masking_errors
from .run.settings_file import write_settings
from .trainer import DAPOTrainer


logger = get_logger(__name__)


@dataclass
class DAPOScriptArguments:
    """
    What to train on and how it is rewarded.

    Parameters:
        dataset_name (`str`):
            Training data: id of a data set on the Hub, or path of a local `.json`, `.jsonl` or `.parquet` file.
        dataset_config (`str`, *optional*):
            Configuration (subset) of a data set on the Hub.
        dataset_train_split (`str`, *optional*, defaults to `"train"`):
            Split to train on.
        eval_dataset_name (`str`, *optional*):
            Evaluation data, used with `eval_strategy`: as `dataset_name`. Defaults to `dataset_test_split` of the
            training data.
        dataset_test_split (`str`, *optional*, defaults to `"test"`):
            Split to evaluate on.
        prompt_column (`str`, *optional*):
            Column with the prompt or problem; found by its name if not given.
        solution_column (`str`, *optional*):
            Column with the gold answer; found by its name if not given.
        prompt_template (`str`, *optional*):
            Name of a template (`dapo`, `boxed`, `plain`) or a text with `{problem}`.
        reward_funcs (`list[str]`, *optional*, defaults to `["accuracy"]`):
            Reward functions: names, or dotted paths of your own (`my_package.rewards.my_reward`).
        answer_rule (`str`, *optional*, defaults to `"auto"`):
            Rule by which the `accuracy` reward finds the answer in a completion.
        thinking_tags (`list[str]`, *optional*, defaults to `["<think>", "</think>"]`):
            What the thinking stands between: the `accuracy` reward reads what follows its last end only (`math_dapo`
            reads all). The beginning is empty where the chat template writes it: `["", "</think>"]`.
        check_rows (`int`, *optional*, defaults to `256`):
            Rows of the training data whose gold answers must score before the run starts; 0 checks nothing.
        vllm_data_parallel_size (`int`, *optional*, defaults to `1`):
            Copies of the model that the vLLM server runs, each on `vllm_tensor_parallel_size` GPUs.
        print_vllm_command (`bool`, *optional*, defaults to `False`):
            Print the command that starts the vLLM server of this recipe, and do nothing else.
    """

    dataset_name: str = field(metadata={"help": "Hub id, or path of a local .json, .jsonl or .parquet file."})
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration (subset) of a data set on the Hub."}
    )
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_dataset_name: str | None = field(
        default=None, metadata={"help": "Evaluation data. Defaults to dataset_test_split of the training data."}
    )
    dataset_test_split: str = field(default="test", metadata={"help": "Split to evaluate on."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with the prompt or problem."})
    solution_column: str | None = field(default=None, metadata={"help": "Column with the gold answer."})
    prompt_template: str | None = field(
        default=None, metadata={"help": "Template by name (dapo, boxed, plain), or a text with {problem}."}
    )
    reward_funcs: list[str] = field(
        default_factory=lambda: ["accuracy"], metadata={"help": "Reward functions: names or dotted paths."}
    )
    answer_rule: str = field(
        default="auto", metadata={"help": "Rule by which the accuracy reward finds the answer in a completion."}
    )
    thinking_tags: list[str] = field(
        default_factory=lambda: list(THINKING_TAGS),
        metadata={
            "help": "Beginning and end of the thinking, in which the accuracy reward reads no answer; an empty "
            "beginning where the chat template writes it."
        },
    )
    check_rows: int = field(
        default=256, metadata={"help": "Rows whose gold answers must score before the run starts; 0: no check."}
    )
    vllm_data_parallel_size: int = field(
        default=1, metadata={"help": "Copies of the model that the vLLM server runs."}
    )
    print_vllm_command: bool = field(
        default=False, metadata={"help": "Print the command that starts the vLLM server, and do nothing else."}
    )


def make_parser() -> RecipeParser:
    """The parser of this command: unknown keys, on the command line or in a recipe, are errors."""
    parser = RecipeParser((DAPOScriptArguments, DAPOConfig, ModelConfig), prog="python -m dapo_trl.train")
    parser.set_defaults(lora_dropout=0.0)  # TRL's 0.05 is for supervised training
    return parser


def load_tokenizer(model_args: ModelConfig, training_args: DAPOConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer, as generation needs it: padding and truncation on the left."""
    return AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        trust_remote_code=training_args.trust_remote_code,
        padding_side="left",
        truncation_side="left",
    )


def load_datasets(
    script_args: DAPOScriptArguments, training_args: DAPOConfig, is_conversational: bool
) -> tuple[Dataset, Dataset | None]:
    """Training data, and evaluation data if the run evaluates."""
    is_evaluated = training_args.eval_strategy != "no"
    if is_evaluated and script_args.eval_dataset_name is None and os.path.isfile(script_args.dataset_name):
        raise ValueError(
            f"eval_strategy={str(training_args.eval_strategy.value)!r}, but dataset_name={script_args.dataset_name!r} "
            "is a single file without a test split. Set eval_dataset_name to a file to evaluate on, or eval_strategy "
            "to 'no'."
        )
    options = {
        "config": script_args.dataset_config,
        "prompt_column": script_args.prompt_column,
        "solution_column": script_args.solution_column,
        "prompt_template": script_args.prompt_template,
        "conversational": True if is_conversational else None,
    }
    with training_args.main_process_first(desc="loading the data set"):
        train_dataset = load_prompts(script_args.dataset_name, split=script_args.dataset_train_split, **options)
        if not is_evaluated:
            return train_dataset, None
        source = script_args.eval_dataset_name or script_args.dataset_name
        return train_dataset, load_prompts(source, split=script_args.dataset_test_split, **options)


def load_rewards(script_args: DAPOScriptArguments) -> list[Callable]:
    """The reward functions by name or dotted path; `answer_rule` and `thinking_tags` are options of `accuracy`."""
    options = {"accuracy": {"answer_rule": script_args.answer_rule, "thinking_tags": script_args.thinking_tags}}
    return [load_reward(name, **options.get(name, {})) for name in script_args.reward_funcs]


def check_golds(dataset: Dataset, reward_funcs: list[Callable], num_rows: int) -> None:
    """
    Refuses data whose gold answers do not score: a reward that is silently wrong ruins the run.

    Args:
        dataset (`Dataset`): the training data.
        reward_funcs (`list[Callable]`): the run's rewards; those that are [`AccuracyReward`] are checked.
        num_rows (`int`): rows to sample; 0 checks nothing.

    Raises:
        CheckFailedError: if too few of the gold answers, written as completions, are right.
    """
    judges = [reward for reward in reward_funcs if isinstance(reward, AccuracyReward)]
    if judges and num_rows:
        check_dataset(dataset, judges, sample=num_rows)


def checkpoint_to_resume(value: str | bool | None, output_dir: str) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means.

    Args:
        value (`str` or `bool`, *optional*): a path, or true for the last complete checkpoint of the output directory.
        output_dir (`str`): the run's output directory.

    Returns:
        `str`, or None for a fresh start.

    Raises:
        ValueError: if a given path holds no complete checkpoint.
    """
    if value is None or str(value).lower() in ("false", "none", "null"):
        return None
    if str(value).lower() == "true":
        checkpoint = last_complete_checkpoint(output_dir)
        if checkpoint is None:
            logger.warning(f"resume_from_checkpoint: no complete checkpoint in {output_dir!r}; starting afresh.")
        else:
            logger.info(f"Resuming from {checkpoint}.")
        return checkpoint
    if not is_complete(value):
        raise ValueError(
            f"resume_from_checkpoint={value!r} is not a complete checkpoint: there is no readable trainer_state.json. "
            "Give the path of a checkpoint-<step> directory, or true for the last complete one of output_dir."
        )
    return value


def is_nothing_left(checkpoint: str | None, training_args: DAPOConfig) -> bool:
    """Whether a run is resumed that is finished. Without a checkpoint, too: they may have been deleted since."""
    value = str(training_args.resume_from_checkpoint).lower()
    if checkpoint is None and value != "true":
        return False
    # The main process's answer: the others may see another file system.
    return broadcast_object_list([is_finished(training_args, checkpoint if value != "true" else None)])[0]


def check_recipe(script_args: DAPOScriptArguments, training_args: DAPOConfig, model_args: ModelConfig) -> None:
    """
    Refuses what the settings alone show to be impossible, before anything is loaded.

    Raises:
        ValueError, ImportError: the message says what to change.
    """
    if model_args.model_name_or_path is None:
        raise ValueError("model_name_or_path is not set. Set it to a model id on the Hub or a local directory.")
    if not script_args.print_vllm_command:  # the server's command may be printed on another machine
        check_weight_transfer(training_args)
        check_quantization(training_args, model_args)


def build_trainer(script_args: DAPOScriptArguments, training_args: DAPOConfig, model_args: ModelConfig) -> DAPOTrainer:
    """The trainer of a recipe, with its model, data and rewards."""
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }
    tokenizer = load_tokenizer(model_args, training_args)
    reward_funcs = load_rewards(script_args)
    train_dataset, eval_dataset = load_datasets(script_args, training_args, tokenizer.chat_template is not None)
    if training_args.process_index == 0:
        check_golds(train_dataset, reward_funcs, script_args.check_rows)
    return DAPOTrainer(
        model=model_args.model_name_or_path,
        reward_funcs=reward_funcs,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )


def asks_for_server_command(argv: list[str]) -> bool:
    """Whether the words of the command line ask for no more than the command of the vLLM server."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    names = ("--print_vllm_command", "--print-vllm-command")
    parser.add_argument(*names, type=string_to_bool, nargs="?", const=True, default=False)
    return parser.parse_known_args(argv)[0].print_vllm_command


def print_server_command(script_args: DAPOScriptArguments, training_args: DAPOConfig, model_args: ModelConfig) -> None:
    """
    Prints the command that starts the vLLM server of a recipe.

    Raises:
        ValueError: if the recipe generates without a server.
    """
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
    words = server_command(training_args, model_args, num_prompt_tokens, script_args.vllm_data_parallel_size)
    sys.stdout.write(format_command(words) + "\n")


def train(
    script_args: DAPOScriptArguments, training_args: DAPOConfig, model_args: ModelConfig, argv: list[str]
) -> bool:
    """
    Trains, saves, and pushes if asked.

    Returns:
        `bool`: whether training came to its end, rather than being told to end (SIGTERM).

    Raises:
        NothingTrainedError: if no rollout had a gradient; no model is saved or pushed then.
    """
    checkpoint = checkpoint_to_resume(training_args.resume_from_checkpoint, training_args.output_dir)
    if is_nothing_left(checkpoint, training_args):
        if training_args.process_index == 0:
            sys.stdout.write(
                f"The run in {training_args.output_dir} is finished and its model saved: nothing is done. Raise "
                "max_steps or num_train_epochs to train on, or give another output_dir.\n"
            )
        return True
    trainer = build_trainer(script_args, training_args, model_args)
    trainer.data_name, trainer.prompt_template = script_args.dataset_name, script_args.prompt_template
    unmark_preempted(training_args.output_dir)
    unmark_finished(training_args.output_dir)
    if training_args.process_index == 0:
        save_recipe(argv, training_args.output_dir)
        write_settings(training_args.output_dir, model_args, script_args, training_args)
    with trainer.preemption.listen():
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.preemption.is_agreed:
        trainer.accelerator.wait_for_everyone()
        mark_preempted(training_args.output_dir, trainer.state.global_step)
        return False

    trainer.save_state()  # with the log of the run, also if no checkpoint was to be saved
    if trainer.reason_untrained:
        raise NothingTrainedError(
            f"Nothing has been trained, so no model is saved to {training_args.output_dir} or pushed. "
            f"{trainer.reason_untrained}"
        )
    if training_args.push_to_hub:
        trainer.push_to_hub()
        trainer.accelerator.print(f"Model pushed to {trainer.hub_address}.")
    else:
        trainer.save_model(training_args.output_dir)
    if training_args.process_index == 0:
        mark_finished(training_args.output_dir, trainer.state, trainer.hub_address)
    trainer.accelerator.print(f"Model saved to {training_args.output_dir}.")
    return True


@record  # a launcher reports the error of the process that failed first
@failing_after_other_ranks()
@masking_errors()
def main(
    argv: list[str] | None = None,
    while_parsing: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> None:
    """Parse, then train or print. Errors of the settings are those of `while_parsing`, others go to the launcher."""
    mask_logs()
    follow_launcher()
    argv = sys.argv[1:] if argv is None else argv
    # The command may be printed on a machine without GPUs, where bfloat16 is refused otherwise.
    for_no_gpu = ["--use_cpu", "true"] if asks_for_server_command(argv) else []
    with while_parsing():
        script_args, training_args, model_args = make_parser().parse([*argv, *for_no_gpu])
        check_recipe(script_args, training_args, model_args)
    sys.argv[1:] = mask_words(sys.argv[1:])  # trackers publish it
    if script_args.print_vllm_command:
        print_server_command(script_args, training_args, model_args)
        return
    last_line = ""
    try:
        status = 0 if train(script_args, training_args, model_args, argv) else EXIT_CODE
    except NothingTrainedError as error:
        get_error_handler().record_exception(error)  # for a launcher, which ends with it
        status, last_line = NOTHING_TRAINED, f"error: {mask_text(str(error))}\n"
    # Only now that the trainer is gone: DDP may hang when it lets go of a group that is destroyed already.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if last_line and training_args.process_index == 0:
        sys.stdout.flush()
        sys.stderr.write(last_line)
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main(while_parsing=errors_in_one_line)
