"""GRPOTrainer whose checkpoints and final model go to the Hub."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils.hub import PushInProgress, hf_api

from .hub.card import write_card
from .hub.facts import gather, write_facts
from .hub.publisher import Publisher, Push
from .run.secret_values import mask_values, remember
from .stoppable_trainer import StoppableGRPOTrainer


logger = get_logger(__name__)

STEP = "{step}"
"""In `hub_revision`: every checkpoint goes to a branch of its own, and the final model to `main`."""


class PublishingGRPOTrainer(StoppableGRPOTrainer):
    """
    [`StoppableGRPOTrainer`] whose pushes are complete, never stop a run, and do not fail in silence.

    [`DAPOTrainer`] lists what is overridden.

    Attributes:
        data_name (`str`, *optional*): Hub id or path of the training data, for the model card.
    """

    data_name: str | None = None
    _publisher: Publisher | None = None

    @property
    def hub_address(self) -> str | None:
        """Page of the repository; None if nothing is pushed, and on all processes but the main one."""
        return self._publisher and self._publisher.address

    def init_hf_repo(self, token=None, **kwargs):
        super().init_hf_repo(token, **kwargs)
        if not self.is_world_process_zero():
            return
        token = token or self.args.hub_token
        remember({"hub_token": token})
        is_private = kwargs.get("private")
        if is_private is None:
            is_private = self.args.hub_private_repo
        if is_private and not hf_api().repo_info(self.hub_model_id, token=token).private:
            raise ValueError(
                f"hub_private_repo=True, but {self.hub_model_id!r} is there already and public. Make it private in "
                "its settings on the Hub, or give another hub_model_id."
            )
        self._publisher = Publisher(hf_api(), self.hub_model_id, Path(self.args.output_dir), token)

    def _push_from_checkpoint(self, checkpoint_folder):
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        by_step = self.args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if by_step else f"epoch {int(self.state.epoch)}"
        folders = {
            HubStrategy.CHECKPOINT: "last-checkpoint",
            HubStrategy.ALL_CHECKPOINTS: Path(checkpoint_folder).name,
        }
        push = Push(
            step=self.state.global_step,
            model_dir=Path(checkpoint_folder),
            message=f"Training in progress, {when}",
            revision=self.args.hub_revision and self.args.hub_revision.replace(STEP, str(self.state.global_step)),
            whole_checkpoint=folders.get(strategy),
        )
        is_busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if self.reason_untrained:
            self._publisher.leave_out(push, "nothing has been trained yet.")
        elif self.preemption.is_agreed:
            self._publisher.leave_out(push, "the run has been told to end. Resume it to go on.")
        elif is_busy and not self.args.hub_always_push:
            self._publisher.leave_out(push, "the push before is still under way. Set hub_always_push to wait in line.")
        else:
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            jobs = self.push_in_progress.jobs if is_busy else []
            job = self._publisher.start(push)
            self.push_in_progress = PushInProgress([*jobs, job] if job else jobs)

    def _finish_current_push(self):
        if not self.preemption.is_agreed:  # time is short
            super()._finish_current_push()

    def push_to_hub(
        self, commit_message="End of training", blocking=True, token=None, revision=None, **kwargs
    ) -> CommitInfo | Any:
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        privacy = {"private": kwargs.pop("private")} if "private" in kwargs else {}  # newer Transformers have it
        if self._publisher is None:
            self.init_hf_repo(token, **privacy)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        model_name = kwargs.pop("model_name", None) or self.hub_model_id.rpartition("/")[2]
        with _warning_of_a_missing_card():
            self.create_model_card(model_name=model_name, **kwargs)
        self._finish_current_push()
        revision = revision or self.args.hub_revision
        push = Push(
            step=self.state.global_step,
            model_dir=Path(self.args.output_dir),
            message=commit_message,
            revision=None if revision and STEP in revision else revision,
        )
        if not blocking:
            return hf_api().run_as_future(self._publisher.finish, push)
        return self._publisher.finish(push)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        if not self.is_world_process_zero():
            return
        model_name = model_name or Path(self.args.output_dir).name
        with _warning_of_a_missing_card() if self.is_in_train else contextlib.nullcontext():
            facts = gather(self, model_name, dataset_name or self.data_name)
            run_dir = Path(self.args.output_dir)
            write_facts(facts, run_dir)
            tags = [tags] if isinstance(tags, str) else tags or ()
            write_card(run_dir, tags=tags, with_curves=self.args.push_to_hub)

    def _save(self, output_dir=None, state_dict=None):
        with self._settings_for_generation(), self._args_without_secrets():
            super()._save(output_dir, state_dict)
            if is_peft_model(self.model) and self.args.should_save:  # newer Transformers call this on every process
                self.model.generation_config.save_pretrained(output_dir or self.args.output_dir)

    @contextlib.contextmanager
    def _settings_for_generation(self) -> Iterator[None]:
        """Inside, the model's configuration says what generation needs: with a cache, until what ended completions."""
        config, generation_config = self.model.config, self.model.generation_config
        use_cache, eos_token_id = config.use_cache, generation_config.eos_token_id
        config.use_cache, generation_config.eos_token_id = True, self.eos_token_ids
        try:
            yield
        finally:
            config.use_cache, generation_config.eos_token_id = use_cache, eos_token_id

    @contextlib.contextmanager
    def _args_without_secrets(self) -> Iterator[None]:
        """Inside, `args` are what may be written: the parent pickles them beside the weights (`training_args.bin`)."""
        args = self.args
        remember(args)
        self.args = copy.copy(args)
        vars(self.args).update(mask_values(vars(args)))
        try:
            yield
        finally:
            self.args = args


@contextlib.contextmanager
def _warning_of_a_missing_card() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Of any kind: a text beside the weights is no reason to lose them.
        logger.warning(
            f"The model card could not be written: {type(error).__name__}: {error} Everything else goes on without it."
        )
