"""What is written beside the weights: what generation needs to know, and no secret."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from accelerate.utils import is_peft_model

from .secret_values import mask_values, remember


@contextlib.contextmanager
def replaced_args(trainer: Any, **values: Any) -> Iterator[None]:
    """Inside, the trainer's `args` are a copy with these values."""
    args = trainer.args
    trainer.args = copy.copy(args)
    vars(trainer.args).update(values)
    try:
        yield
    finally:
        trainer.args = args


@contextlib.contextmanager
def as_saved(trainer: Any, output_dir: str) -> Iterator[None]:
    """
    Inside, the model's configuration says what generation needs (a cache, and what ended completions), and `args`,
    which Trainer pickles beside the weights (`training_args.bin`), hold no secret. An adapter's generation
    configuration is saved, too.
    """
    config, generation_config = trainer.model.config, trainer.model.generation_config
    use_cache, eos_token_id = config.use_cache, generation_config.eos_token_id
    config.use_cache, generation_config.eos_token_id = True, trainer.eos_token_ids
    remember(trainer.args)
    try:
        with replaced_args(trainer, **mask_values(vars(trainer.args))):
            yield
        if trainer.args.should_save and is_peft_model(trainer.model):  # newer Transformers call this on every process
            generation_config.save_pretrained(output_dir)
    finally:
        config.use_cache, generation_config.eos_token_id = use_cache, eos_token_id
