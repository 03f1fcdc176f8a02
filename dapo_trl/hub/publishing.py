"""
Pushes of a run to the Hub: in the background and one after another, each complete, on a branch per step if asked.

One that fails is reported and tried again at the end; it does not stop the run.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils.hub import PushInProgress, hf_api

from ..run.secret_values import remember
from ..run.settings_file import SETTINGS_FILE
from .card import CARD_FILE, CURVES_FILE, write_card
from .facts import DATA_CARD_FILE, FACTS_FILE, write_facts
from .recipe import RECIPE_FILE


logger = logging.getLogger(__name__)

STEP = "{step}"
"""In `hub_revision`: every checkpoint goes to a branch of its own, and the final model to `main`."""

SECONDS_BETWEEN_ATTEMPTS = (10, 60)
"""At the end of a run. The Hub's client itself tries every request again for half a minute."""

STAGED_PREFIX = "_push-"

MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.txt", "*.model", "*.py")
# Not of use to load a model. `training_args.bin` is a pickle that can hold the token and paths of this machine.
_NOT_PUSHED = ("trainer_state.json", "training_args.bin", "zero_to_fp32.py", "*_state_*")
RUN_FILES = (
    *(CARD_FILE, RECIPE_FILE, DATA_CARD_FILE, CURVES_FILE, FACTS_FILE, SETTINGS_FILE),
    *("metrics*.jsonl", "evaluation/summary-*.json"),
    "runs/**/*",  # TensorBoard: the Hub shows it
)


class PushError(OSError):
    """Something that was to be on the Hub at the end is not."""


@dataclass(frozen=True, eq=False)
class Push:
    """A model to be pushed, with what there is of its run."""

    name: str  # in messages
    model_dir: Path  # a checkpoint, or where the final model was saved
    message: str  # of the commit
    revision: str | None = None  # the branch; None for `main`
    whole_checkpoint: str | None = None  # folder on the Hub for all of the checkpoint, to resume from

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Where it goes: a later push to the same place replaces an earlier one."""
        return self.revision, self.whole_checkpoint


class Publisher:
    """Pushes checkpoints and the final model of the run in `run_dir` to one repository, which exists."""

    def __init__(self, api: HfApi, repo_id: str, run_dir: Path, token: str | None = None):
        self.api, self.repo_id, self.run_dir, self.token = api, repo_id, run_dir, token
        self.address = f"{api.endpoint}/{repo_id}"
        self.newest: dict[tuple[str | None, str | None], Push] = {}  # by place; older ones are not needed any more
        self.uploaded: set[Push] = set()
        for left_over in run_dir.glob(f"{STAGED_PREFIX}*"):  # of a run that was killed
            shutil.rmtree(left_over)

    @property
    def missing(self) -> list[Push]:
        """Pushes that failed, were left out or are under way, and that no later one replaces."""
        return [push for push in self.newest.values() if push not in self.uploaded]

    def start(self, push: Push) -> Future | None:
        """Gathers the files now and uploads them in the background; None if they cannot be gathered."""
        self.newest[push.place] = push
        with self._reporting_failure(push):
            return self.api.run_as_future(self._upload_in_background, push, stage(push, self.run_dir))
        return None

    def leave_out(self, push: Push, reason: str) -> None:
        """Notes a push that does not take place now, to make it at the end if nothing else goes to the same place."""
        self.newest[push.place] = push
        logger.warning(f"{push.name.capitalize()} is not pushed to {self.address} now: {reason}")

    def finish(self, final: Push) -> CommitInfo:
        """Pushes the final model, and what is missing, in a few attempts; [`PushError`] if they do not suffice."""
        self.newest[final.place] = final
        for push in self.missing:
            if not push.model_dir.is_dir():
                del self.newest[push.place]
                logger.warning(
                    f"{push.name.capitalize()} is not on {self.address}, and {push.model_dir} has been deleted: it "
                    "cannot be pushed any more. Raise save_total_limit to keep checkpoints until the end."
                )
        commits = {}
        for wait in (0, *SECONDS_BETWEEN_ATTEMPTS):
            time.sleep(wait)
            for push in self.missing:
                with self._reporting_failure(push):
                    commits[push] = self._upload(push, stage(push, self.run_dir))
            if not self.missing:
                return commits[final]
        where = ", ".join(f"{push.name} ({push.revision or 'main'}) from {push.model_dir}" for push in self.missing)
        raise PushError(
            f"Not on {self.address} after {len(SECONDS_BETWEEN_ATTEMPTS) + 1} attempts: {where}. The warnings above "
            "say why. Nothing is lost. When the cause is mended, push the final model by `dapo-trl model-card "
            f"--run {self.run_dir} --push`, and a checkpoint by `hf upload {self.repo_id} "
            "<checkpoint> . --revision <branch>`."
        )

    @contextlib.contextmanager
    def _reporting_failure(self, push: Push) -> Iterator[None]:
        """A push that fails does not stop anything."""
        try:
            yield
        except Exception as error:  # of any kind: a thread would keep it to itself
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning(f"The push of {push.name} to {self.address} failed: {reason}")

    def _upload_in_background(self, push: Push, folder: Path) -> None:
        with self._reporting_failure(push):
            self._upload(push, folder)

    def _upload(self, push: Push, folder: Path) -> CommitInfo:
        try:
            if push.revision is not None:
                self.api.create_branch(self.repo_id, branch=push.revision, exist_ok=True, token=self.token)
            commit = self.api.upload_folder(
                repo_id=self.repo_id,
                folder_path=folder,
                revision=push.revision,
                commit_message=push.message,
                token=self.token,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.uploaded.add(push)
        return commit


def stage(push: Push, run_dir: Path) -> Path:
    """
    Gathers what is pushed in a directory of its own in `run_dir`, which stays as it is while the run goes on.

    Weights are linked, not copied: a checkpoint's files are never written again, and may be deleted meanwhile.
    """
    target = Path(tempfile.mkdtemp(prefix=STAGED_PREFIX, dir=run_dir))
    for pattern in RUN_FILES:
        for path in filter(Path.is_file, run_dir.glob(pattern)):
            copied = target / path.relative_to(run_dir)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
    left_out = {path for pattern in _NOT_PUSHED for path in push.model_dir.glob(pattern)}
    for path in {path for pattern in MODEL_FILES for path in push.model_dir.glob(pattern)} - left_out:
        if path.is_file() and not (target / path.name).exists():
            _link(path, target / path.name)
    if push.whole_checkpoint is not None:
        ignored = shutil.ignore_patterns("training_args.bin")
        shutil.copytree(push.model_dir, target / push.whole_checkpoint, copy_function=_link, ignore=ignored)
    return target


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


# What the trainer calls.


def open_publisher(trainer: Any, token: str | None = None) -> Publisher:
    """For the repository that the trainer has created or found; an error if it is public and not to be."""
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
    name = f"step {state.global_step}"
    progress = name if args.save_strategy == SaveStrategy.STEPS else f"epoch {int(state.epoch)}"
    folders = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: Path(checkpoint).name}
    push = Push(
        name,
        model_dir=Path(checkpoint),
        message=f"Training in progress, {progress}",
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
        if not is_busy:
            trainer.push_in_progress = PushInProgress()
        if job := publisher.start(push):
            trainer.push_in_progress.jobs.append(job)


def push_final(
    trainer: Any,
    message: str = "End of training",
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    **kwargs: Any,
) -> CommitInfo | Future | None:
    """
    Saves the model to `output_dir` and pushes it, with what checkpoints have left open, or raises [`PushError`].

    The arguments are those of [`~transformers.Trainer.push_to_hub`]. Returns the commit, or a future of it unless
    `blocking`; None on all processes but the main one.
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
        name=f"step {trainer.state.global_step}",
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
    """Writes `run.json` and the card. If it `may_fail`, as in training, an error is a warning: weights matter more."""
    run_dir = Path(trainer.args.output_dir)
    try:
        write_facts(trainer, model_name or run_dir.name, dataset_name or trainer.data_name)
        tags = [tags] if isinstance(tags, str) else tags or ()
        write_card(run_dir, tags=tags, with_curves=trainer.publisher is not None)
    except Exception as error:
        if not may_fail:
            raise
        what = f"{type(error).__name__}: {error}"
        logger.warning(f"The model card could not be written: {what} Everything else goes on without it.")
