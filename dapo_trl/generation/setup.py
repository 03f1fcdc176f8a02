"""How the trainer generates: what is set up once it stands, and around each call."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from accelerate.logging import get_logger
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.trainer import grpo_trainer

from .compact import dropping_ended_rows
from .kwargs import end_tokens, own_settings, without_own_settings


logger = get_logger(__name__)


@contextlib.contextmanager
def built_with_vllm(args: Any, datasets: Iterable[Any], global_step: Callable[[], int]) -> Iterator[None]:
    """Inside, a trainer that is built generates by our side of vLLM, which is not loaded without `use_vllm`."""
    if not args.use_vllm:
        yield
        return
    from .vllm.generation import Generation

    original = grpo_trainer.VLLMGeneration
    made = partial(Generation, args=args, datasets=datasets, global_step=global_step)
    grpo_trainer.VLLMGeneration = made  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = original  # type: ignore[misc]


def prepare_generation(trainer: Any, timed_sync: Callable) -> None:
    """Sets which tokens end a completion, and prepares a server, whose transfers `timed_sync` decorates."""
    args = trainer.args
    vocab_size = trainer.model.config.get_text_config().vocab_size
    trainer.eos_token_ids = end_tokens(args, trainer.eos_token_ids, vocab_size)
    if not trainer.use_vllm:
        if own := own_settings(trainer.model.generation_config, trainer.generation_kwargs):
            listed = ", ".join(f"{name}={str(value):.40}" for name, value in own.items())
            logger.warning(
                f"model.generation_config has {listed}: completions would be drawn from another distribution than "
                "the policy's, so it is left out in training. What is meant for training goes into generation_kwargs."
            )
        return
    from .vllm.claim import ReleaseCallback
    from .vllm.comparison import score_text

    generation = trainer.vllm_generation
    # Whatever the server has been told of the model: it ends where this trainer sees an end.
    generation.generation_kwargs = {**(args.generation_kwargs or {}), "stop_token_ids": trainer.eos_token_ids}
    generation.sync_weights = timed_sync(generation.sync_weights)
    generation.score = lambda ids: score_text(trainer.model, trainer.accelerator, ids)
    trainer.add_callback(ReleaseCallback(generation.release))


@contextlib.contextmanager
def generating(trainer: Any) -> Iterator[None]:
    """Inside, Transformers drops rows that have ended, and goes by nothing of the model's own configuration."""
    if trainer.use_vllm:
        yield
        return
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_torch_compile=False)
    is_sharded = trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()
    # All processes must run a sharded model equally often.
    is_compact = trainer.args.owns_batches and trainer.args.compact_generation and not is_sharded
    compact = dropping_ended_rows(model, trainer.generation_config) if is_compact else contextlib.nullcontext()
    with without_own_settings(model), compact:
        yield
