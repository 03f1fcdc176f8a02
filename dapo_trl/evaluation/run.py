"""An evaluation from its settings to its summary."""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ..data.prompts import as_messages
from ..rewards import AccuracyReward
from ..rewards.answers import THINKING_TAGS
from .backends import make_sampler
from .completions import Completion, CompletionsFile, Request, make_requests
from .config import EvaluateConfig
from .judge import judge, results
from .model import ModelFiles, find_model, load_tokenizer, read_metadata, trained_rule, trained_tags
from .presets import find_source
from .problems import Problems, digest, load_problems
from .prompts import PromptSettings, find_prompt_settings
from .summary import FORMAT_VERSION, versions, write_summary


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
    """What is evaluated on what."""

    config: EvaluateConfig
    files: ModelFiles | None  # None for a model that only a server has
    tokenizer: PreTrainedTokenizerBase | None  # None for a server's chat
    problems: Problems
    requests: list[Request]  # k for each problem
    metadata: dict[str, Any] | None  # what the trainer wrote beside the model, or beside that to be like
    prompts: PromptSettings

    @property
    def sampling(self) -> dict[str, Any]:
        """Everything that a completion depends on but the model, the problem and the number of the sample."""
        names = ["backend", "temperature", "top_p", "top_k", "max_completion_length", "seed"]
        names += ["chat_template_kwargs", "tokenizer", *_BACKEND_SETTINGS[self.config.backend]]
        return {name: getattr(self.config, name) for name in names}

    @property
    def completions_path(self) -> Path:
        """Where the completions are; another file for every model, data and sampling, but not for every k."""
        # A server may come back at another address; the model is the same.
        identity = self.files.identity() if self.files else None
        key = [self.config.model, identity, self.problems.prompts_hash, self.sampling]
        return output_dir(self.config) / f"completions-{self.problems.source.name}-{digest(key)}.jsonl"

    def described(self) -> dict[str, Any]:
        """The parts `model`, `data` and `prompts` of the summary, as far as they are known before sampling."""
        config, files, problems = self.config, self.files, self.problems
        example = min(self.requests, key=lambda request: request.problem)  # the same in every evaluation of the data
        sent = self.tokenizer.decode(example.prompt_ids) if self.tokenizer else as_messages(example.prompt)
        return {
            "model": {
                "name": config.model,
                "identity": files.identity() if files else f"as served by {config.server_url}",
                "base": files.base if files and files.adapter else None,
                "metadata": None if config.like else self.metadata,
            },
            "data": {
                **vars(problems.source),
                "num_rows": problems.num_rows,
                "num_problems": len(problems.records),
                "problems_hash": problems.problems_hash,
                "prompts_hash": problems.prompts_hash,
            },
            "prompts": {
                "form": self.prompts.form or self.prompts.prompt_template,
                "form_from": self.prompts.origin,
                "chat_template_kwargs": config.chat_template_kwargs or {},
                "example": {"id": example.problem, "sent": sent},
            },
        }


def prepare(config: EvaluateConfig) -> Evaluation:
    """Finds model, tokenizer and problems, and checks that they fit; loads no weights."""
    is_server = config.backend == "server"
    is_chat = is_server and config.server_api == "chat"
    files = None if is_server else find_model(config.model, config.revision, config.trust_remote_code)
    tokenizer = None if is_chat else _tokenizer(config, files)
    has_chat_template = tokenizer is None or tokenizer.chat_template is not None
    if config.like is not None:
        metadata = read_metadata(config.like)
    else:  # a server's name for the model need not be a Hub id
        metadata = read_metadata(config.model, config.revision, is_on_hub=not is_server)
    prompts = find_prompt_settings(config, metadata, has_chat_template)
    config = replace(config, chat_template_kwargs=prompts.chat_template_kwargs)
    if is_chat and isinstance(prompts.form, str):
        logger.warning(
            "The model was trained on plain text, but server_api='chat' puts the server's chat template around it. "
            "Give --server_api completions to ask as in the training."
        )
    problems = load_problems(
        find_source(config.data, config.data_split, config.data_config, config.data_file),
        prompt_form=prompts.form,
        num_problems=config.num_problems,
        conversational=has_chat_template,
        prompt_column=config.prompt_column,
        solution_column=config.solution_column,
        prompt_template=prompts.prompt_template,
    )
    requests = make_requests(problems.records, config.k, config.seed, tokenizer, prompts.chat_template_kwargs)
    if files is not None and (window := files.context_window()) is not None:
        _check_context(window, max(len(request.prompt_ids) for request in requests), config.max_completion_length)
    return Evaluation(config, files, tokenizer, problems, requests, metadata, prompts)


def evaluate(config: EvaluateConfig) -> tuple[dict[str, Any], Path]:
    """Samples what is missing, judges, and writes the summary. Returns it, and the file it is written to."""
    evaluation = prepare(config)
    reward, rule_from = make_reward(config, evaluation.metadata)
    records, path = evaluation.problems.records, evaluation.completions_path
    with CompletionsFile(path, {"model": config.model, "sampling": evaluation.sampling}) as file:
        sample_missing(evaluation, file)
        verdicts = judge(file.rows(), records, config.k, reward)
    summary = {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **evaluation.described(),
        "sampling": {"k": config.k, **evaluation.sampling},
        "judging": {
            "answer_rule": reward.answer_rule,
            "answer_rule_from": rule_from,
            "thinking_tags": reward.thinking_tags and list(reward.thinking_tags),
        },
        "versions": versions(),
        **results(records, verdicts, reward.verifier),
        "completions_file": path.name,
    }
    summary["data"]["num_unscorable"] = sum(not problem["is_scorable"] for problem in summary["problems"])
    name = path.stem.removeprefix("completions-")
    summary_path = path.with_name(f"summary-{name}-k{config.k}-{reward.answer_rule}.json")
    write_summary(summary, summary_path)
    return summary, summary_path


def sample_missing(evaluation: Evaluation, file: CompletionsFile) -> None:
    """Samples the requests that are not in the file yet, with a progress bar."""
    requests = evaluation.requests
    missing = [request for request in requests if (request.problem, request.sample) not in file.done]
    # The longest prompts first: what does not fit shows at once. What is left of a stopped evaluation falls into the
    # same batches, because the order is stable.
    missing.sort(key=lambda request: -len(request.prompt_ids))
    num_done = len(requests) - len(missing)
    if num_done:
        logger.info("%d of %d samples are in %s already.", num_done, len(requests), file.path)
    if not missing:
        return
    sample = make_sampler(evaluation.config, evaluation.files, evaluation.tokenizer)
    with tqdm(total=len(requests), initial=num_done, desc="Sampling", unit="sample", smoothing=0.05) as progress:

        def save(request: Request, completion: Completion) -> None:
            file.add(request, completion)
            progress.update()

        sample(missing, save)


def make_reward(config: EvaluateConfig, metadata: dict[str, Any] | None) -> tuple[AccuracyReward, str]:
    """The reward that judges, and where its answer rule is from: `given`, `model`, `like` or `default`."""
    rule, origin = config.answer_rule, "given"
    if rule is None:
        rule, origin = trained_rule(metadata), "like" if config.like else "model"
    if rule is None:
        rule, origin = "auto", "default"
    tags: Any = config.thinking_tags or trained_tags(metadata) or THINKING_TAGS
    reward = AccuracyReward(rule, thinking_tags=tags)
    logger.info("Answer rule (%s): %s.", origin, reward.answer_rule)
    return reward, origin


def output_dir(config: EvaluateConfig) -> Path:
    """Where results go: as given, or beside a local model, or by the model's name."""
    if config.output_dir is not None:
        return Path(config.output_dir)
    if Path(config.model).is_dir():
        return Path(config.model) / OUTPUT_DIR
    return Path("outputs") / OUTPUT_DIR / config.model.strip("/").replace("/", "--")


def _check_context(window: int, longest_prompt: int, max_completion_length: int) -> None:
    if longest_prompt + max_completion_length > window:
        raise ValueError(
            f"max_completion_length={max_completion_length} and the longest prompt, {longest_prompt} tokens, exceed "
            f"the model's context of {window}. Give --max_completion_length {max(window - longest_prompt, 0)} or less "
            "(if it is 0, leave that problem out of the data)."
        )


def _tokenizer(config: EvaluateConfig, files: ModelFiles | None) -> Any:
    name, revision = config.tokenizer or config.model, None if config.tokenizer else config.revision
    if config.tokenizer is None and files is not None and files.adapter is not None:
        directory = Path(files.name)  # of a Hub id it is assumed that it has a tokenizer
        if directory.is_dir() and not (directory / "tokenizer_config.json").exists():
            name, revision = files.base, files.base_revision
    return load_tokenizer(name, revision, config.trust_remote_code)
