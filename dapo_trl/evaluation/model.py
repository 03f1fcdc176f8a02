"""The model under evaluation: its files, its tokenizer, and the answer rule it was trained with."""

import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, extract_commit_hash

from ..rewards.answers import ANSWER_RULES
from ..run.checkpoint import METADATA
from .problems import digest


logger = logging.getLogger(__name__)

_ADAPTER_CONFIG = "adapter_config.json"
# What completions depend on. Results and logs beside them do not count.
_MODEL_FILES = ("*.safetensors", "*.bin", "*config.json", "tokenizer*", "chat_template*", "vocab*", "merges.txt")


@dataclass(frozen=True)
class ModelFiles:
    """A whole model, or a LoRA adapter on a base model."""

    name: str  # directory or Hub id
    revision: str | None = None  # branch, tag or commit on the Hub
    adapter: LoraConfig | None = None
    trust_remote_code: bool = False  # whether code that comes with the model may run

    @property
    def base(self) -> str:
        return self.name if self.adapter is None else str(self.adapter.base_model_name_or_path)

    @property
    def base_revision(self) -> str | None:
        return self.revision if self.adapter is None else self.adapter.revision

    def identity(self) -> str:
        """Changes when the model does: the commit on the Hub, or a hash of the local files' sizes and times."""
        directory = Path(self.name)
        if directory.is_dir():
            files = sorted({file for pattern in _MODEL_FILES for file in directory.glob(pattern)})
            return digest([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])
        config = "config.json" if self.adapter is None else _ADAPTER_CONFIG
        return extract_commit_hash(cached_file(self.name, config, revision=self.revision), None) or "unknown"

    def context_window(self) -> int | None:
        """Longest sequence in tokens, None if the configuration does not say."""
        config = AutoConfig.from_pretrained(
            self.base, revision=self.base_revision, trust_remote_code=self.trust_remote_code
        )
        return getattr(config.get_text_config(), "max_position_embeddings", None)


def find_model(name: str, revision: str | None = None, trust_remote_code: bool = False) -> ModelFiles:
    """An adapter or a whole model; a FileNotFoundError if there is neither, a ValueError if it is not LoRA."""
    is_found = partial(cached_file, revision=revision, _raise_exceptions_for_missing_entries=False)
    try:
        if is_found(name, _ADAPTER_CONFIG):
            adapter = PeftConfig.from_pretrained(name, revision=revision)
            if not isinstance(adapter, LoraConfig):
                raise ValueError(
                    f"model={name!r} is an adapter of type {adapter.peft_type}, but only LoRA can be evaluated. Merge "
                    "it into its base model, and name the result."
                )
            return ModelFiles(name, revision, adapter, trust_remote_code)
        if is_found(name, "config.json"):
            return ModelFiles(name, revision, None, trust_remote_code)
        reason = "there is neither file"
    except OSError as error:
        reason = str(error)
    raise FileNotFoundError(
        f"model={name!r} is neither a directory with a config.json or {_ADAPTER_CONFIG}, nor a model that could be "
        f"reached on the Hub: {reason}. Correct the path or the id."
    )


def load_tokenizer(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """A tokenizer with a padding token; a FileNotFoundError if there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"There is no tokenizer at {name!r}. Give its directory or Hub id with --tokenizer. ({error})"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_metadata(model: str, revision: str | None = None, *, is_on_hub: bool = True) -> dict[str, Any] | None:
    """What the trainer wrote beside a model, None if nothing; looked for on the Hub only `is_on_hub`."""
    if not (is_on_hub or Path(model).is_dir()):
        return None
    path = cached_file(model, METADATA, revision=revision, _raise_exceptions_for_missing_entries=False)
    if not path:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}). Remove it; the answer rule is then --answer_rule, or auto."
        ) from error


def trained_rule(metadata: dict[str, Any] | None) -> str | None:
    """The answer rule that a model was rewarded by, None if unknown; warns if the rule has changed."""
    rules = (metadata or {}).get("answer_rules", {})
    tag = rules.get("accuracy") or next(iter(rules.values()), None)
    name = tag.rpartition("-")[0] if tag else None
    if name not in ANSWER_RULES:
        return None
    if ANSWER_RULES[name].tag != tag:
        logger.warning("The model was trained with answer rule %s, which is now %s.", tag, ANSWER_RULES[name].tag)
    return name


def trained_tags(metadata: dict[str, Any] | None) -> list[str] | None:
    """What the thinking stood between when a model was rewarded, None if unknown."""
    tags = (metadata or {}).get("thinking_tags", {})
    return tags.get("accuracy") or next(filter(None, tags.values()), None)
