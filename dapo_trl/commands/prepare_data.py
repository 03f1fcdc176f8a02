"""
Prepare and check data sets: `dapo-trl prepare-data --source <Hub id or path> --output <dir or Hub id>`.

Leaves out repetitions, problems with conflicting reference answers, and what the settings ask to leave out; writes a
data set with a card that counts all of this. With `--check` every reference answer is scored as a completion.
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from ..data.check import CheckFailedError, check_dataset
from ..data.load import load_prompts
from ..data.prepare import SAMPLER_BATCH, Sampler, prepare
from ..data.prepare_config import PrepareConfig
from ..data.records import Record
from ..data.sources import is_hub_id
from ..rewards import load_reward
from ..run.secret_values import mask_logs
from .recipe_parser import RecipeParser


logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line, prepares, checks, pushes. Exits with status 1 if the check fails."""
    (config,) = RecipeParser(PrepareConfig, prog="dapo-trl prepare-data").parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mask_logs()
    try:
        run(config)
    except CheckFailedError as error:
        sys.exit(str(error))


def run(config: PrepareConfig) -> None:
    """What the command does; if the check fails, a local output is there to look into, and nothing is pushed."""
    reward_funcs = _reward_funcs(config)  # first: unknown ones are refused before anything is written
    if config.output is None:
        _check(load_prompts(config.source, **config.reading()), config, reward_funcs)
    elif is_hub_id(config.output):
        _require_login(config.output)
        with tempfile.TemporaryDirectory(prefix="dapo_trl_") as directory:
            _prepare(config, Path(directory), reward_funcs)
            _push(Path(directory), config.output, config.private)
    else:
        _prepare(config, Path(config.output).expanduser(), reward_funcs)


def _prepare(config: PrepareConfig, directory: Path, reward_funcs: list[Callable]) -> None:
    counts = prepare(
        config,
        directory,
        tokenizer=_tokenizer(config),
        make_sampler=partial(_make_sampler, config, config.pass_rate_model) if config.pass_rate_model else None,
        reward_func=reward_funcs[0],
    )
    sys.stdout.writelines(f"{text.strip('*')}: {number}\n" for text, number in counts.described())
    if config.check:
        _check(load_prompts(str(directory)), config, reward_funcs)


def _make_sampler(config: PrepareConfig, model: str, conversational: bool) -> Sampler:
    """Samples by the backends of `dapo-trl evaluate`: Transformers on this machine, or a server."""
    from ..evaluation.backends import make_sampler
    from ..evaluation.completions import Completion, Request, make_requests
    from ..evaluation.config import EvaluateConfig
    from ..evaluation.model import find_model, load_tokenizer

    is_local = config.pass_rate_server is None
    evaluate_config = EvaluateConfig(
        model=model,
        data=config.source,
        k=config.num_generations,
        temperature=config.temperature,
        top_p=1.0,
        max_completion_length=config.max_completion_length,
        batch_size=SAMPLER_BATCH * config.num_generations,
        server_url=config.pass_rate_server,
        server_api="chat" if conversational else "completions",
    )
    tokenizer = load_tokenizer(model) if is_local else None
    sample_all = make_sampler(evaluate_config, find_model(model) if is_local else None, tokenizer)

    def sample(records: Sequence[Record]) -> list[list[str]]:
        texts = {record.id: [""] * config.num_generations for record in records}

        def save(request: Request, completion: Completion) -> None:
            texts[request.problem][request.sample] = completion.text

        sample_all(make_requests(records, config.num_generations, config.seed, tokenizer), save)
        return list(texts.values())

    return sample


def _check(dataset: Dataset, config: PrepareConfig, reward_funcs: list[Callable]) -> None:
    report = check_dataset(
        dataset,
        reward_funcs,
        sample=config.check_sample,
        seed=config.seed,
        min_frac_right=config.min_frac_right,
        tokenizer=_tokenizer(config),
    )
    sys.stdout.write(f"{report.summary()}\n")


def _tokenizer(config: PrepareConfig) -> Any:
    from transformers import AutoTokenizer  # it takes seconds, which --help need not wait for

    return AutoTokenizer.from_pretrained(config.tokenizer) if config.tokenizer else None


def _reward_funcs(config: PrepareConfig) -> list[Callable]:
    given = {"answer_rule": config.answer_rule, "thinking_tags": config.thinking_tags}
    options = {name: value for name, value in given.items() if value is not None}
    return [load_reward(name, **(options if name == "accuracy" else {})) for name in config.reward_funcs]


def _require_login(repo_id: str) -> None:
    """Fails before the work rather than after it."""
    try:
        HfApi().whoami()
    except (LocalTokenNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise ValueError(
            f"output={repo_id!r} is read as a data set on the Hub, and the login there fails ({error}). Log in with "
            f"`hf auth login`, or write './{repo_id}' if a local directory is meant."
        ) from error


def _push(directory: Path, repo_id: str, private: bool) -> None:
    """Creates the data set on the Hub if need be and uploads the directory in one commit."""
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=directory,
        commit_message="Prepared by dapo-trl prepare-data",
    )
    logger.info("Pushed to %s", commit.commit_url)
