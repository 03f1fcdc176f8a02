"""
Prepare and check data sets: `dapo-trl prepare-data --source <Hub id or path> --output <dir or Hub id>`.

Reads DAPO-Math-17k in its published layouts, GSM8K, MATH and plain files; takes known templates off; leaves out
repetitions, problems with conflicting golds, prompts over a token limit, problems of evaluation sets, and problems
that a model always or never solves; writes a data set with a card that counts all of this. With `--check` every gold
answer is scored as a completion. `--help` lists the settings, which may also stand in a YAML file (`--config`).
"""

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset

from ..data.check import check_dataset
from ..data.check_report import CheckFailedError
from ..data.hub import is_hub_id, push_directory, require_login
from ..data.load import load_prompts
from ..data.prepare import build_generator, prepare
from ..data.prepare_config import PrepareConfig
from ..data.tokens import load_tokenizer
from ..rewards import load_reward
from ..run.secret_values import mask_logs
from .recipe_parser import RecipeParser


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
    """
    What the command does, for settings already parsed.

    Raises:
        CheckFailedError: if too few golds score. A local output is then there to look into; nothing is pushed.
    """
    reward_funcs = _reward_funcs(config)  # first: unknown ones are refused before anything is written
    if config.output is None:
        _check(_load(config), config, reward_funcs)
    elif is_hub_id(config.output):
        require_login(config.output)
        with tempfile.TemporaryDirectory(prefix="dapo_trl_") as directory:
            _prepare(config, Path(directory), reward_funcs)
            push_directory(Path(directory), config.output, private=config.private)
    else:
        _prepare(config, Path(config.output).expanduser(), reward_funcs)


def _prepare(config: PrepareConfig, directory: Path, reward_funcs: list[Callable]) -> None:
    generator = build_generator(config)
    counts = prepare(
        config,
        directory,
        tokenizer=load_tokenizer(config.tokenizer),
        generator=generator,
        reward_func=reward_funcs[0] if generator else None,
    )
    _say("\n".join(f"{text.strip('*')}: {number}" for text, number in counts.described()))
    if config.check:
        _check(load_prompts(str(directory)), config, reward_funcs)


def _load(config: PrepareConfig) -> Dataset:
    return load_prompts(
        config.source,
        split=config.split,
        config=config.config_name,
        prompt_column=config.prompt_column,
        solution_column=config.solution_column,
        prompt_template=config.prompt_template,
        conversational=config.conversational,
    )


def _check(dataset: Dataset, config: PrepareConfig, reward_funcs: list[Callable]) -> None:
    report = check_dataset(
        dataset,
        reward_funcs,
        sample=config.check_sample,
        seed=config.seed,
        min_frac_right=config.min_frac_right,
        completion_template=config.completion_template,
        tokenizer=load_tokenizer(config.tokenizer),
    )
    _say(report.summary())


def _reward_funcs(config: PrepareConfig) -> list[Callable]:
    given = {"answer_rule": config.answer_rule, "thinking_tags": config.thinking_tags}
    options = {name: value for name, value in given.items() if value is not None}
    return [load_reward(name, **(options if name == "accuracy" else {})) for name in config.reward_funcs]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
