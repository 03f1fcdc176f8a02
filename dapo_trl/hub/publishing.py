"""A trainer's pushes to the Hub: complete, on a branch per step if asked; one that fails is told, and ends no run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils.hub import PushInProgress, hf_api

from ..run.secret_values import remember
from .card import write_card
from .facts import gather, write_facts
from .publisher import Publisher, Push


logger = get_logger(__name__)

STEP = "{step}"
"""In `hub_revision`: every checkpoint goes to a branch of its own, and the final model to `main`."""


def open_publisher(trainer: Any, token: str | None = None) -> Publisher:
    """
    For the repository that the trainer has created or found; on the main process only.

    Raises:
        ValueError: if it is to be private and is there already, for all to see.
    """
    token = token or trainer.args.hub_token
    remember({"hub_token": token})
    if trainer.args.hub_private_repo and not hf_api().repo_info(trainer.hub_model_id, token=token).private:
        raise ValueError(
            f"hub_private_repo=True, but {trainer.hub_model_id!r} is there already and public. Make it private in "
            "its settings on the Hub, or give another hub_model_id."
        )
    return Publisher(hf_api(), trainer.hub_model_id, Path(trainer.args.output_dir), token)


def push_checkpoint(trainer: Any, publisher: Publisher, checkpoint: str) -> None:
    """Starts the push of a checkpoint as `hub_strategy` says, or notes why it is made up for at the end."""
    args, state = trainer.args, trainer.state
    if args.hub_strategy == HubStrategy.END:
        return
    by_step = args.save_strategy == SaveStrategy.STEPS
    folders = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: Path(checkpoint).name}
    push = Push(
        step=state.global_step,
        model_dir=Path(checkpoint),
        message=f"Training in progress, {f'step {state.global_step}' if by_step else f'epoch {int(state.epoch)}'}",
        revision=args.hub_revision and args.hub_revision.replace(STEP, str(state.global_step)),
        whole_checkpoint=folders.get(args.hub_strategy),
    )
    is_busy = trainer.push_in_progress is not None and not trainer.push_in_progress.is_done()
    if trainer.reason_untrained:
        publisher.leave_out(push, "nothing has been trained yet.")
    elif trainer.preemption.is_agreed:
        publisher.leave_out(push, "the run has received SIGTERM. Resume it to go on.")
    elif is_busy and not args.hub_always_push:
        publisher.leave_out(push, "the push before is still under way. Set hub_always_push to wait in line.")
    else:
        trainer.callback_handler.on_push_begin(args, state, trainer.control)
        job = publisher.start(push)
        jobs = trainer.push_in_progress.jobs if is_busy else []
        trainer.push_in_progress = PushInProgress([*jobs, job] if job else jobs)


def push_final(
    trainer: Any,
    message: str = "End of training",
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    **kwargs: Any,
) -> CommitInfo | Any:
    """
    Saves the model to `output_dir` and pushes it, with what checkpoints have left open.

    Args:
        trainer ([`DAPOTrainer`]): the trainer.
        message, blocking, token, revision: see [`~transformers.Trainer.push_to_hub`].
        kwargs: arguments of [`write_model_card`].

    Returns:
        `CommitInfo`, or a future unless `blocking`; None on all processes but the main one.

    Raises:
        PushError: if something is not on the Hub in the end.
    """
    trainer.callback_handler.on_push_begin(trainer.args, trainer.state, trainer.control)
    privacy = {"private": kwargs.pop("private")} if "private" in kwargs else {}  # newer Transformers have it
    if trainer.hub_model_id is None:
        trainer.init_hf_repo(token, **privacy)
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return None
    if trainer.publisher is None:
        trainer.publisher = open_publisher(trainer, token)
    model_name = kwargs.pop("model_name", None) or trainer.hub_model_id.rpartition("/")[2]
    write_model_card(trainer, model_name, **kwargs, may_fail=True)
    trainer._finish_current_push()
    revision = revision or trainer.args.hub_revision
    push = Push(
        step=trainer.state.global_step,
        model_dir=Path(trainer.args.output_dir),
        message=message,
        revision=None if revision and STEP in revision else revision,
    )
    if not blocking:
        return hf_api().run_as_future(trainer.publisher.finish, push)
    return trainer.publisher.finish(push)


def write_model_card(
    trainer: Any, model_name: str | None, dataset_name: str | None = None, tags: Any = None, may_fail: bool = False
) -> None:
    """
    Writes what is known of the run (`run.json`) and the card (`README.md`) to `output_dir`.

    A card that cannot be written is a warning if it `may_fail`, as in training: no reason to lose the weights.
    """
    run_dir = Path(trainer.args.output_dir)
    with _warning_of_a_missing_card() if may_fail else contextlib.nullcontext():
        write_facts(gather(trainer, model_name or run_dir.name, dataset_name or trainer.data_name), run_dir)
        tags = [tags] if isinstance(tags, str) else tags or ()
        write_card(run_dir, tags=tags, with_curves=trainer.publisher is not None)


@contextlib.contextmanager
def _warning_of_a_missing_card() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.warning(
            f"The model card could not be written: {type(error).__name__}: {error} Everything else goes on without it."
        )
