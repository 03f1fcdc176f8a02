"""An evaluation from its settings to its summary."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..data.prompts import as_messages
from ..rewards import AccuracyReward
from ..rewards.answers import THINKING_TAGS
from .asking import Asking, find_asking
from .backends import PromptEncoder, check_length, make_backend
from .completions_file import CompletionsFile
from .config import EvaluateConfig
from .judge import judge, vote_classes
from .model import ModelFiles, find_model, has_tokenizer, load_tokenizer, read_metadata, trained_rule, trained_tags
from .presets import find_source
from .problems import Problems, digest, load_problems
from .samples import Completion, Request, make_requests
from .summary import FORMAT_VERSION, now, results, versions, write_summary


logger = logging.getLogger(__name__)

OUTPUT_DIR = "evaluation"

# Not the batch size and what else changes only how fast it goes.
_BACKEND_SETTINGS = {
    "transformers": ("dtype",),
    "vllm": ("dtype", "vllm_extra"),
    "server": ("server_api", "server_extra"),
}


@dataclass(frozen=True)
class Evaluation:
    """
    What is evaluated on what.

    Attributes:
        config ([`EvaluateConfig`]): the settings.
        files ([`ModelFiles`], *optional*): the model's files; None for a model that only a server has.
        encoder ([`PromptEncoder`], *optional*): makes tokens of prompts; None for a server's chat.
        problems ([`Problems`]): the problems.
        metadata (`dict`, *optional*): what the trainer wrote beside the model, or beside that to be like.
        asking ([`Asking`]): how the problems are asked.
    """

    config: EvaluateConfig
    files: ModelFiles | None
    encoder: PromptEncoder | None
    problems: Problems
    metadata: dict[str, Any] | None
    asking: Asking

    @property
    def prompts(self) -> dict[str, Any]:
        """The `prompts` part of the summary."""
        record = min(self.problems.records, key=lambda record: record.id)  # the same in every evaluation of the data
        return {
            "form": self.asking.form or self.asking.prompt_template,
            "form_from": self.asking.origin,
            "chat_template_kwargs": self.config.chat_template_kwargs or {},
            "example": {"id": record.id, "sent": self.encoder.text(record.id, record.prompt)}
            if self.encoder
            else {"id": record.id, "sent": as_messages(record.prompt)},
        }

    @property
    def sampling(self) -> dict[str, Any]:
        """Everything that a completion depends on but the model, the problem and the number of the sample."""
        names = ["backend", "temperature", "top_p", "top_k", "max_completion_length", "seed"]
        names += ["chat_template_kwargs", "tokenizer", *_BACKEND_SETTINGS[self.config.backend]]
        return {name: getattr(self.config, name) for name in names}

    @property
    def model(self) -> dict[str, Any]:
        """The `model` part of the summary."""
        files = self.files
        return {
            "name": self.config.model,
            "identity": files.identity() if files else f"as served by {self.config.server_url}",
            "base": files.base if files and files.adapter else None,
            "metadata": None if self.config.like else self.metadata,
        }

    @property
    def completions_path(self) -> Path:
        """Where the completions are; another file for every model, data and sampling, but not for every k."""
        # A server may come back at another address; the model is the same.
        identity = self.files.identity() if self.files else None
        key = [self.config.model, identity, self.problems.prompts_hash, self.sampling]
        return output_dir(self.config) / f"completions-{self.problems.source.name}-{digest(key)}.jsonl"


def prepare(config: EvaluateConfig) -> Evaluation:
    """
    Finds model, tokenizer and problems; loads no weights.

    Raises:
        FileNotFoundError: if the model, its tokenizer or the data is not there.
        ValueError: if the data cannot be used, or prompts and completions do not fit into the model's context.
    """
    files = None
    if config.backend != "server":
        files = find_model(config.model, config.revision, config.trust_remote_code)
    is_chat = config.backend == "server" and config.server_api == "chat"
    tokenizer = None if is_chat else _tokenizer(config, files)
    has_chat_template = is_chat or tokenizer.chat_template is not None
    # A server's name for the model need not be a Hub id.
    is_on_hub = config.like is not None or config.backend != "server"
    metadata = read_metadata(
        config.like or config.model, None if config.like else config.revision, is_on_hub=is_on_hub
    )
    asking = find_asking(config, metadata, has_chat_template)
    config = replace(config, chat_template_kwargs=asking.chat_template_kwargs)
    if is_chat and isinstance(asking.form, str):
        logger.warning(
            "The model was trained on plain text, but server_api='chat' puts the server's chat template around it. "
            "Give --server_api completions to ask as in the training."
        )
    encoder = None if is_chat else PromptEncoder(tokenizer, config.chat_template_kwargs)
    problems = load_problems(
        find_source(config.data, config.data_file, config.data_split, config.data_config),
        conversational=has_chat_template,
        prompt_column=config.prompt_column,
        solution_column=config.solution_column,
        prompt_template=asking.prompt_template,
        prompt_form=asking.form,
        num_problems=config.num_problems,
    )
    if files is not None:
        _check_context(config, files, encoder, problems)
    return Evaluation(config, files, encoder, problems, metadata, asking)


def evaluate(config: EvaluateConfig) -> tuple[dict[str, Any], Path]:
    """
    Samples what is missing, judges, and writes the summary.

    Args:
        config ([`EvaluateConfig`]): the settings.

    Returns:
        `tuple[dict, Path]`: the summary, and the file it is written to.
    """
    evaluation = prepare(config)
    reward, rule_from = make_reward(config, evaluation.metadata)
    records, path = evaluation.problems.records, evaluation.completions_path
    with CompletionsFile(path, {"model": config.model, "sampling": evaluation.sampling}) as file:
        sample_missing(evaluation, file, make_requests(records, config.k, config.seed))
        verdicts = judge(file.rows(), records, config.k, reward)
    source = evaluation.problems.source
    summary = {
        "format_version": FORMAT_VERSION,
        "created": now(),
        "model": evaluation.model,
        "data": {
            **vars(source),
            "prompt_template": config.prompt_template,
            "num_rows": evaluation.problems.num_rows,
            "num_problems": len(records),
            "num_unscorable": int((~verdicts.is_scorable).sum()),
            "problems_hash": evaluation.problems.problems_hash,
            "prompts_hash": evaluation.problems.prompts_hash,
        },
        "prompts": evaluation.prompts,
        "sampling": {"k": config.k, **evaluation.sampling},
        "judging": {
            "answer_rule": reward.answer_rule,
            "answer_rule_from": rule_from,
            "thinking_tags": reward.thinking_tags and list(reward.thinking_tags),
        },
        "versions": versions(),
        **results(records, verdicts, vote_classes(verdicts, reward)),
        "completions_file": path.name,
    }
    name = path.stem.removeprefix("completions-")
    summary_path = path.with_name(f"summary-{name}-k{config.k}-{reward.answer_rule}.json")
    write_summary(summary, summary_path)
    return summary, summary_path


def sample_missing(evaluation: Evaluation, file: CompletionsFile, requests: Sequence[Request]) -> None:
    """Samples the requests that are not in the file yet, with a progress bar."""
    missing = [request for request in requests if request.key not in file.done]
    num_done = len(requests) - len(missing)
    if num_done:
        logger.info("%d of %d samples are in %s already.", num_done, len(requests), file.path)
    if not missing:
        return
    backend = make_backend(evaluation.config, evaluation.files, evaluation.encoder)
    with tqdm(total=len(requests), initial=num_done, desc="Sampling", unit="sample", smoothing=0.05) as progress:

        def save(request: Request, completion: Completion) -> None:
            file.add(request, completion)
            progress.update()

        backend.sample(missing, save)


def make_reward(config: EvaluateConfig, metadata: dict[str, Any] | None) -> tuple[AccuracyReward, str]:
    """The reward that judges, and where its answer rule is from: `given`, `model`, `like` or `default`."""
    trained = trained_rule(metadata) if config.answer_rule is None else None
    rule_from = "given" if config.answer_rule else "default"
    if trained:
        rule_from = "like" if config.like else "model"
    reward = AccuracyReward(
        config.answer_rule or trained or "auto",
        thinking_tags=config.thinking_tags or trained_tags(metadata) or THINKING_TAGS,
    )
    reasons = {"given": "as given", "model": "with which the model was trained", "default": "the default"}
    reasons["like"] = "as in the training of the model to be like"
    logger.info("Answer rule: %s, %s.", reward.answer_rule, reasons[rule_from])
    return reward, rule_from


def output_dir(config: EvaluateConfig) -> Path:
    """Where results go: as given, or beside a local model, or by the model's name."""
    if config.output_dir is not None:
        return Path(config.output_dir)
    if Path(config.model).is_dir():
        return Path(config.model) / OUTPUT_DIR
    return Path("outputs") / OUTPUT_DIR / config.model.strip("/").replace("/", "--")


def _tokenizer(config: EvaluateConfig, files: ModelFiles | None) -> Any:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer, None, config.trust_remote_code)
    if files is not None and files.adapter is not None and not has_tokenizer(files.name):
        return load_tokenizer(files.base, files.base_revision, config.trust_remote_code)
    return load_tokenizer(config.model, config.revision, config.trust_remote_code)


def _check_context(config: EvaluateConfig, files: ModelFiles, encoder: PromptEncoder, problems: Problems) -> None:
    longest = encoder.longest((record.id, record.prompt) for record in problems.records)
    window = files.context_window()
    if window is not None:
        names = ("the model's context", "take a model with a longer one")
        check_length(longest, config.max_completion_length, window, *names)
