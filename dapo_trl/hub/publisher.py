"""Pushes of a run: in the background, one after another; what fails is told, and tried again at the end."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from accelerate.logging import get_logger
from huggingface_hub import CommitInfo, HfApi

from .files import STAGED_PREFIX, stage


logger = get_logger(__name__)

# The Hub's client itself tries every request again for half a minute.
SECONDS_BETWEEN_ATTEMPTS = (10, 60)


class PushError(OSError):
    """Something that was to be on the Hub at the end is not."""


@dataclass(frozen=True)
class Push:
    """
    What is to be pushed.

    Attributes:
        step (`int`): optimizer steps that the model was trained.
        model_dir (`Path`): the checkpoint, or where the final model was saved.
        message (`str`): of the commit.
        revision (`str`, *optional*): branch; None for `main`.
        whole_checkpoint (`str`, *optional*): folder on the Hub for all of the checkpoint, to resume from.
    """

    step: int
    model_dir: Path
    message: str
    revision: str | None = None
    whole_checkpoint: str | None = None

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Where it goes: a later push to the same place makes an earlier one needless."""
        return self.revision, self.whole_checkpoint


class Publisher:
    """
    Pushes checkpoints and the final model of a run to one repository.

    Args:
        api (`HfApi`): the client.
        repo_id (`str`): the repository, which exists.
        run_dir (`Path`): the run's output directory.
        token (`str`, *optional*): with permission to write; defaults to the one that is logged in.

    Attributes:
        missing (`dict`): pushes by place that failed or were left out, and that no later push has made good.
    """

    def __init__(self, api: HfApi, repo_id: str, run_dir: Path, token: str | None = None):
        self.api = api
        self.repo_id = repo_id
        self.run_dir = run_dir
        self.token = token
        self.missing: dict[tuple[str | None, str | None], Push] = {}
        for left_over in run_dir.glob(f"{STAGED_PREFIX}*"):  # of a run that was killed
            shutil.rmtree(left_over)

    @property
    def address(self) -> str:
        """The repository's page."""
        return f"{self.api.endpoint}/{self.repo_id}"

    def start(self, push: Push) -> Future | None:
        """
        Gathers the files now and uploads them in the background.

        Returns:
            `Future`: of the commit, which is None if it fails. None if there is nothing to upload.
        """
        folder = self._try(self._stage, push)
        return folder and self.api.run_as_future(self._try, self._upload, push, folder)

    def leave_out(self, push: Push, reason: str) -> None:
        """Notes a push that does not take place now, to make it at the end if nothing else goes to the same place."""
        self.missing[push.place] = push
        logger.warning(f"Step {push.step} is not pushed to {self.address} now: {reason}")

    def finish(self, final: Push) -> CommitInfo:
        """
        Pushes the final model, and what is missing; tries again what fails.

        Returns:
            `CommitInfo`: of the final model.

        Raises:
            PushError: if something is missing still.
        """
        self.missing[final.place] = final
        self._forget_deleted()
        commit = None
        for wait in (0, *SECONDS_BETWEEN_ATTEMPTS):
            time.sleep(wait)
            for push in list(self.missing.values()):
                folder = self._try(self._stage, push)
                pushed = folder and self._try(self._upload, push, folder)
                commit = pushed if push is final else commit
            if not self.missing:
                return commit
        raise PushError(self._describe(list(self.missing.values())))

    def _forget_deleted(self) -> None:
        for push in [push for push in self.missing.values() if not push.model_dir.is_dir()]:
            del self.missing[push.place]
            logger.warning(
                f"Step {push.step} is not on {self.address}, and {push.model_dir} has been deleted: it cannot be "
                "pushed any more. Raise save_total_limit to keep checkpoints until the end."
            )

    def _try(self, action, push: Push, *args):
        """The result, or None: a push that fails does not stop anything."""
        try:
            return action(push, *args)
        except Exception as error:  # of any kind: a thread would keep it to itself
            self.missing[push.place] = push
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning(f"The push of step {push.step} to {self.address} failed: {reason}")
            return None

    def _stage(self, push: Push) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=STAGED_PREFIX, dir=self.run_dir))
        stage(push.model_dir, self.run_dir, folder, push.whole_checkpoint)
        return folder

    def _upload(self, push: Push, folder: Path) -> CommitInfo:
        options = {"repo_id": self.repo_id, "token": self.token}
        try:
            if push.revision is not None:
                self.api.create_branch(branch=push.revision, exist_ok=True, **options)
            commit = self.api.upload_folder(
                folder_path=folder, revision=push.revision, commit_message=push.message, **options
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.missing.pop(push.place, None)
        return commit

    def _describe(self, pending: Sequence[Push]) -> str:
        where = ", ".join(f"step {push.step} ({push.revision or 'main'}) from {push.model_dir}" for push in pending)
        return (
            f"Not on {self.address} after {len(SECONDS_BETWEEN_ATTEMPTS) + 1} attempts: {where}. The warnings above "
            "say why. Nothing is lost. When the cause is mended, push the final model by `dapo-trl model-card "
            f"--run {self.run_dir} --push`, and a checkpoint by `hf upload {self.repo_id} "
            "<checkpoint> . --revision <branch>`."
        )
