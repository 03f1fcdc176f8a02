"""A recipe: its fields, its parser, and the tokenizer and data that it names."""

import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING

from trl import ModelConfig

from ..fields import option
from ..rewards.answers import THINKING_TAGS
from .recipe_parser import HELP, RecipeParser


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from ..config import DAPOConfig


EPILOG = (
    "Then come output_dir, max_completion_length, num_generations, learning_rate, max_steps, use_vllm\n"
    "and the batch sizes. recipes/ has examples."
)


@dataclass
class DAPOScriptArguments:
    """What to train on and how it is rewarded; the fields are documented by their `help`."""

    dataset_name: str = option(MISSING, "Hub id, or path of a local .json, .jsonl or .parquet file.")
    dataset_config: str | None = option(None, "Configuration (subset) of a data set on the Hub.")
    dataset_train_split: str = option("train", "Split to train on.")
    eval_dataset_name: str | None = option(
        None, "Evaluation data. Defaults to dataset_test_split of the training data."
    )
    dataset_test_split: str = option("test", "Split to evaluate on.")
    prompt_column: str | None = option(None, "Column with the prompt or problem; found by its name if not given.")
    solution_column: str | None = option(None, "Column with the reference answer; found by its name if not given.")
    prompt_template: str | None = option(None, "Template by name (dapo, boxed, plain), or a text with {problem}.")
    reward_funcs: list[str] = option(["accuracy"], "Reward functions: names or dotted paths.")
    answer_rule: str = option("auto", "Rule by which the accuracy reward finds the answer in a completion.")
    thinking_tags: list[str] = option(
        list(THINKING_TAGS),
        "Beginning and end of the thinking, in which the accuracy reward reads no answer; an empty beginning where "
        "the chat template writes it.",
    )
    check_rows: int = option(256, "Rows whose reference answers must score before the run starts; 0: no check.")
    vllm_data_parallel_size: int = option(
        1, "Copies of the model that the vLLM server runs, on vllm_tensor_parallel_size GPUs each."
    )


def make_parser(words: Sequence[str] = (), prog: str = "python -m dapo_trl.train") -> RecipeParser:
    """The parser of recipes: unknown keys, on the command line or in a recipe, are errors."""
    classes: tuple[type, ...] = (DAPOScriptArguments, ModelConfig)
    if list(words) not in HELP:  # for the short help nobody waits for torch
        from ..config import DAPOConfig

        classes = (DAPOScriptArguments, DAPOConfig, ModelConfig)
    description = "Train a model with DAPO. Fields stand in a YAML recipe, or on the command line, where they win."
    if prog.endswith("vllm-command"):
        description = "Print the command that starts the vLLM server of a recipe."
    parser = RecipeParser(classes, prog=prog, description=description, epilog=EPILOG)
    parser.set_defaults(lora_dropout=0.0)  # TRL's 0.05 is for supervised training
    return parser


def read_recipe(parser: RecipeParser, words: Sequence[str]) -> tuple[DAPOScriptArguments, "DAPOConfig", ModelConfig]:
    """What a command line and its recipe say."""
    script_args, training_args, model_args = parser.parse(words)
    if model_args.model_name_or_path is None:
        raise ValueError("model_name_or_path is not set. Set it to a model id on the Hub or a local directory.")
    return script_args, training_args, model_args


def load_tokenizer(model_args: ModelConfig, training_args: "DAPOConfig") -> "PreTrainedTokenizerBase":
    """The model's tokenizer, as generation needs it: padding and truncation on the left."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        trust_remote_code=training_args.trust_remote_code,
        padding_side="left",
        truncation_side="left",
    )


def load_datasets(
    script_args: DAPOScriptArguments, training_args: "DAPOConfig", is_conversational: bool
) -> "tuple[Dataset, Dataset | None]":
    """Training data, and evaluation data if the run evaluates."""
    from ..data import load_prompts

    is_evaluated = training_args.eval_strategy != "no"
    if is_evaluated and script_args.eval_dataset_name is None and os.path.isfile(script_args.dataset_name):
        raise ValueError(
            f"eval_strategy={str(training_args.eval_strategy.value)!r}, but dataset_name={script_args.dataset_name!r} "
            "is a file without a test split. Set eval_dataset_name to a file, or eval_strategy to 'no'."
        )

    def load(source: str, split: str) -> "Dataset":
        return load_prompts(
            source,
            split=split,
            config=script_args.dataset_config,
            prompt_column=script_args.prompt_column,
            solution_column=script_args.solution_column,
            prompt_template=script_args.prompt_template,
            conversational=True if is_conversational else None,
        )

    with training_args.main_process_first(desc="loading the data set"):
        train_dataset = load(script_args.dataset_name, script_args.dataset_train_split)
        if not is_evaluated:
            return train_dataset, None
        source = script_args.eval_dataset_name or script_args.dataset_name
        return train_dataset, load(source, script_args.dataset_test_split)
