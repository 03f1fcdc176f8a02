"""
Train a model with DAPO from a YAML recipe.

```bash
accelerate launch --config_file recipes/accelerate_configs/zero3.yaml -m dapo_trl.train --config recipe.yaml
```

Every field can be given on the command line too (`--learning_rate 1e-6`), where it beats the recipe.
"""

import contextlib
import sys
from collections.abc import Callable

import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list
from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record
from trl import ModelConfig, get_peft_config, get_quantization_config

from .checks.model import check_quantization
from .commands.command_line import errors_in_one_line
from .commands.recipe import DAPOScriptArguments, load_datasets, load_tokenizer, make_parser, read_recipe
from .config import DAPOConfig
from .data import check_dataset
from .distributed.failed_rank import failing_after_other_ranks, follow_launcher
from .generation.vllm.preflight import check_weight_transfer
from .hub.recipe import save_recipe
from .rewards import AccuracyReward, load_reward
from .run.checkpoint import is_complete, is_finished, last_complete_checkpoint, mark_finished, unmark_finished
from .run.early_end import NOTHING_TRAINED, PREEMPTED, NothingTrainedError
from .run.preemption import mark_preempted, unmark_preempted
from .run.secret_values import mask_logs, mask_text, mask_words, masking_errors
from .run.settings_file import write_settings
from .trainer import DAPOTrainer


logger = get_logger(__name__)


def load_rewards(script_args: DAPOScriptArguments) -> list[Callable]:
    """The reward functions by name or dotted path; `answer_rule` and `thinking_tags` are options of `accuracy`."""
    options = {"accuracy": {"answer_rule": script_args.answer_rule, "thinking_tags": script_args.thinking_tags}}
    return [load_reward(name, **options.get(name, {})) for name in script_args.reward_funcs]


def checkpoint_to_resume(value: str | bool | None, output_dir: str) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means: a path, true for the last complete one of the output directory,
    or None for a run from scratch.
    """
    if value is None or str(value).lower() in ("false", "none", "null"):
        return None
    if str(value).lower() == "true":
        checkpoint = last_complete_checkpoint(output_dir)
        if checkpoint is None:
            logger.warning(f"resume_from_checkpoint: no complete checkpoint in {output_dir!r}; starting from scratch.")
        else:
            logger.info(f"Resuming from {checkpoint}.")
        return checkpoint
    if not isinstance(value, str) or not is_complete(value):
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
    judges = [reward for reward in reward_funcs if isinstance(reward, AccuracyReward)]
    if judges and script_args.check_rows and training_args.process_index == 0:
        # A reward that calls the reference answers wrong would ruin the run.
        check_dataset(train_dataset, judges, sample=script_args.check_rows)
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


def train(
    script_args: DAPOScriptArguments, training_args: DAPOConfig, model_args: ModelConfig, argv: list[str]
) -> bool:
    """Trains, saves, and pushes if asked."""
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
    """Parse and train. Errors of the settings are those of `while_parsing`, others go to the launcher."""
    mask_logs()
    follow_launcher()
    argv = sys.argv[1:] if argv is None else argv
    with while_parsing():
        script_args, training_args, model_args = read_recipe(make_parser(), argv)
        # What the settings alone show to be impossible is refused before anything is loaded.
        check_weight_transfer(training_args)
        check_quantization(training_args, model_args)
    sys.argv[1:] = mask_words(sys.argv[1:])  # trackers publish it
    last_line = ""
    try:
        status = 0 if train(script_args, training_args, model_args, argv) else PREEMPTED
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
