"""The trainer's own part of a checkpoint: written atomically, checked, read with `weights_only=True`."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .. import __version__
from .atomic_write import atomic_file, write_atomically
from .secret_values import mask_values


if TYPE_CHECKING:
    from ..data.prompt_form import PromptForm

FORMAT_VERSION = 1
TRAINER_STATE = "trainer_state.json"
METADATA = "dapo_trl.json"
FINISHED = "FINISHED"
PROMPT_FORM = "prompt"
CHAT_TEMPLATE_KWARGS = "chat_template_kwargs"


class CheckpointError(RuntimeError):
    """The trainer's own state in a checkpoint cannot be used."""


def save_metadata(
    directory: str,
    rewards: dict[str, Any],
    prompt_form: "PromptForm | None" = None,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> None:
    """
    Writes `dapo_trl.json` beside the weights: the version of this package, the rule by which rewards read answers and
    the thinking that they leave out, how problems are asked, and the arguments of the chat template.
    """
    rules = {name: function.answer_rule for name, function in rewards.items() if hasattr(function, "answer_rule")}
    tags = {name: function.thinking_tags for name, function in rewards.items() if hasattr(function, "thinking_tags")}
    metadata = {
        "dapo_trl_version": __version__,
        "rewards": list(rewards),
        "answer_rules": rules,
        "thinking_tags": tags,
        PROMPT_FORM: prompt_form,
        CHAT_TEMPLATE_KWARGS: chat_template_kwargs or {},
    }
    (Path(directory) / METADATA).write_text(json.dumps(mask_values(metadata), indent=2) + "\n")


def state_path(checkpoint: str, process: int) -> Path:
    """File of one process's state."""
    return Path(checkpoint) / f"dapo_state_{process}.pt"


def save_state(state: dict, checkpoint: str, process: int) -> None:
    """Writes one process's state (tensors, numbers, strings, lists and dicts), all of it or nothing."""
    path = state_path(checkpoint, process)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        torch.save({"format_version": FORMAT_VERSION, **state}, file)


def load_state(checkpoint: str, process: int) -> dict | None:
    """What [`save_state`] wrote, None if there is no file; CheckpointError if it is damaged or of another format."""
    path = state_path(checkpoint, process)
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, depending on where the file is damaged
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}). The checkpoint is damaged: resume from an earlier one."
        ) from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, but this version of dapo_trl reads {FORMAT_VERSION}. Resume with "
            "the version that wrote the checkpoint."
        )
    return state


def load_own_state(checkpoint: str, process: int) -> dict | None:
    """The state that a process goes on from: its own file, or the first one's in a run with more processes."""
    first = load_state(checkpoint, 0)
    if first is not None and (process == 0 or process >= first["num_processes"]):
        return first  # a file of this process, if there is one, was left by an earlier run with more processes
    return load_state(checkpoint, process) or first


def last_complete_checkpoint(output_dir: str) -> str | None:
    """The newest checkpoint that was written to its end, or None; half-written ones are passed over."""
    numbered = []
    for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        match = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name)
        if match and is_complete(path):
            numbered.append((int(match[1]), str(path)))
    return max(numbered)[1] if numbered else None


def is_complete(checkpoint: str | Path) -> bool:
    """Whether the checkpoint was written to its end: the trainer writes `trainer_state.json` last."""
    try:
        TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE))
    except (OSError, json.JSONDecodeError, TypeError):
        return False
    return True


def mark_finished(output_dir: str, state: TrainerState, hub_address: str | None) -> None:
    """Leaves the file `FINISHED` beside the final model: a run that is resumed ends at once (see [`is_finished`])."""
    weights = {path.name: path.stat().st_size for path in sorted(Path(output_dir).glob("*.safetensors"))}
    end = {"global_step": state.global_step, "epoch": state.epoch, "hub_address": hub_address, "weights": weights}
    write_atomically(Path(output_dir, FINISHED), json.dumps(end) + "\n")


def unmark_finished(output_dir: str) -> None:
    """Before anything of the final model may change: the run counts as unfinished."""
    Path(output_dir, FINISHED).unlink(missing_ok=True)


def is_finished(args: TrainingArguments, checkpoint: str | None = None) -> bool:
    """
    Whether a run has nothing left to do: trained to its end, the final model saved whole, and pushed if asked.

    `args` may have the run end elsewhere than before; a checkpoint to go on from must be at the end, too.
    """
    output_dir = Path(str(args.output_dir))
    try:
        end = json.loads((output_dir / FINISHED).read_text(encoding="utf-8"))
        is_whole = all((output_dir / name).stat().st_size == size for name, size in end["weights"].items())
        is_at_end = _is_at_end(args, end["global_step"], end["epoch"])
    except (OSError, ValueError, KeyError):
        return False
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(Path(checkpoint, TRAINER_STATE)))
        is_at_end = is_at_end and _is_at_end(args, state.global_step, state.epoch)
    return is_whole and is_at_end and not (args.push_to_hub and end["hub_address"] is None)


def _is_at_end(args: TrainingArguments, global_step: int, epoch: float | None) -> bool:
    return global_step >= args.max_steps if args.max_steps > 0 else (epoch or 0.0) >= args.num_train_epochs


def mark_incomplete(checkpoint: str) -> None:
    """Before a checkpoint is written over: from here to its end, it counts as half-written."""
    Path(checkpoint, TRAINER_STATE).unlink(missing_ok=True)
