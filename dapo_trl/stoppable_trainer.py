"""GRPOTrainer whose runs may end early, with a checkpoint."""

import functools

from accelerate.logging import get_logger
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from .checks.returned_rewards import RewardValueError
from .data.prompt_form import PromptForm, find_form
from .generation.vllm import ServerError
from .monitored_trainer import MonitoredGRPOTrainer
from .monitoring import AlarmError
from .run.checkpoint import last_complete_checkpoint, mark_incomplete, save_metadata
from .run.preemption import PreemptedError
from .sampling import ShortageError


logger = get_logger(__name__)


class FinishedError(RuntimeError):
    """The checkpoint that is resumed from is the end of the run."""


class NothingTrainedError(RuntimeError):
    """A run has come to its end without a rollout that had a gradient."""


class StoppableGRPOTrainer(MonitoredGRPOTrainer):
    """
    [`MonitoredGRPOTrainer`] that ends a run in order. [`DAPOTrainer`] lists what is overridden.

    Attributes:
        prompt_template (`str`, *optional*): the template around the problems of the training data, by name or as
            text, for whoever evaluates the model; None: it is looked for in the data.
    """

    prompt_template: str | None = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._last_saved_step: int | None = None

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        self._begin_afresh()
        if resume_from_checkpoint is True:  # Trainer would take one that is half-written, too
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir) or True
        save_total_limit = self.args.save_total_limit
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except FinishedError as reason:
            if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
                self._load_best_model()
            if self.use_vllm:
                self.vllm_generation.release()
            logger.warning(str(reason))
            return TrainOutput(self.state.global_step, 0.0, {})
        finally:
            self.is_in_train = False
            self.args.save_total_limit = save_total_limit

    def _begin_afresh(self):
        super()._begin_afresh()
        self._is_ending, self._last_saved_step = False, None

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        # The last moment before callbacks begin to write.
        if resume_from_checkpoint is not None and self.state.global_step >= max_steps:
            self._recall(resume_from_checkpoint)
            self._last_reason_untrained = f"No rollout up to {resume_from_checkpoint} had a gradient."
            field = "max_steps" if self.args.max_steps > 0 else "num_train_epochs"
            raise FinishedError(
                f"{resume_from_checkpoint} holds optimizer step {self.state.global_step}, and the run ends at step "
                f"{max_steps}: it is finished, and nothing is trained. Raise {field} to go on."
            )
        return prepared

    def _run_epoch(self, **kwargs):
        self._is_ending = False
        try:
            super()._run_epoch(**kwargs)
        except (ShortageError, AlarmError, PreemptedError, RewardValueError, ServerError) as reason:
            self._is_ending = True
            self._last_reason_untrained = str(reason)
            is_preempted = isinstance(reason, PreemptedError)
            # Preempted just after a checkpoint: time is short, and nothing has changed.
            is_saved = is_preempted and self._last_saved_step == self.state.global_step
            if self.args.save_strategy != "no" and not is_saved:
                self._save_checkpoint(kwargs["model"], kwargs["trial"])
                self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            if isinstance(reason, RewardValueError | ServerError) or (
                isinstance(reason, ShortageError) and self.args.on_shortage == "raise"
            ):
                raise
            logger.warning(f"Training ends before optimizer step {self.state.global_step + 1}. {reason}")
            self.control.should_training_stop = True
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            # With a limit of 1, the parent would delete the last checkpoint at its end if another is the best: nobody
            # could go on from there, and a run that is started again would not know that it has ended.
            self.args.save_total_limit = None

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler=False):
        try:
            return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        except PreemptedError:
            if not skip_scheduler:
                raise
            return {}  # `eval_on_start`: the run ends in order before its first optimizer step, which comes next

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            rewards = dict(zip(self.reward_func_names, self.reward_funcs, strict=True))
            directory = output_dir or self.args.output_dir
            save_metadata(directory, rewards, self.prompt_form, self.args.chat_template_kwargs)

    @functools.cached_property
    def prompt_form(self) -> PromptForm | None:
        """How problems are asked, see [`~dapo_trl.data.prompt_form.find_form`]; None: the data does not tell."""
        return find_form(self.train_dataset, self.prompt_template)

    def _save_checkpoint(self, model, trial):
        # A checkpoint without use must not stand in the way of, or push out, the last good one.
        self._weights.check(model, self.state.global_step, self.args.output_dir)
        if self.args.should_save:
            mark_incomplete(f"{self._get_output_dir(trial)}/{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        super()._save_checkpoint(model, trial)
        self._last_saved_step = self.state.global_step
