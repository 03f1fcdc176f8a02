"""The steps of preparing a data set, one after the other, on a stream of records."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from ..generation.openai_client import OpenAIServer
from ..run.secret_values import mask_text
from .card import DATA_FILE, write_card
from .counts import Counts
from .decontaminate import Decontaminator, read_problems
from .deduplicate import deduplicate
from .difficulty import within_pass_rate
from .generators import Generator, ServerGenerator, TransformersGenerator
from .prepare_config import CARD_FIELDS, PrepareConfig
from .records import Record, RecordReader, source_name
from .scoring import RewardFunc, reward_name
from .text import answer_type
from .tokens import within_token_limit
from .writer import write_parquet


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prepare(
    config: PrepareConfig,
    directory: Path,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    generator: Generator | None = None,
    reward_func: RewardFunc | None = None,
) -> Counts:
    """
    Reads a source and writes a prepared data set: a parquet file and a data card.

    Args:
        config ([`PrepareConfig`]):
            Settings.
        directory (`Path`):
            Where to write.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Counts tokens; needed with `max_prompt_tokens`.
        generator ([`Generator`], *optional*):
            Samples completions for pass rates. Without it there are none.
        reward_func (`Callable`, *optional*):
            Judges them.

    Returns:
        [`Counts`]

    Raises:
        FileExistsError: if the directory holds a data set already and `overwrite` is off.
        ValueError: if the source cannot be read, or no row is kept.
    """
    _refuse_overwriting(directory, config)
    counts = Counts()
    reader = RecordReader(
        config.source,
        counts,
        split=config.split,
        config=config.config_name,
        prompt_column=config.prompt_column,
        solution_column=config.solution_column,
        prompt_template=config.prompt_template,
        conversational=config.conversational,
    )
    records = deduplicate(tqdm(reader, desc="Reading", unit=" rows", unit_scale=True), counts)
    records = _selected(records, config, counts, tokenizer, generator, reward_func)
    answer_types: Counter = Counter()
    records = _counted(tqdm(records, desc="Writing", unit=" problems"), counts, answer_types)
    layout = {"conversational": reader.conversational, "with_pass_rate": generator is not None}
    write_parquet(records, directory / DATA_FILE, **layout)
    counts.check_sum()
    card = write_card(
        source=source_name(config.source),
        is_hub_source=not Path(config.source).expanduser().exists(),
        layout=reader.layout.name,
        counts=counts,
        settings=_card_settings(config, reward_func),
        answer_types=answer_types,
        **layout,
    )
    (directory / "README.md").write_text(mask_text(card), encoding="utf-8")
    return counts


def _selected(
    records: Iterable[Record],
    config: PrepareConfig,
    counts: Counts,
    tokenizer: "PreTrainedTokenizerBase | None",
    generator: Generator | None,
    reward_func: RewardFunc | None,
) -> Iterable[Record]:
    """The records that the settings keep: cheap criteria first, pass rates last."""
    if config.max_prompt_tokens is not None:
        records = within_token_limit(records, tokenizer, config.max_prompt_tokens, counts)
    if config.decontaminate:
        records = _uncontaminated(records, config, counts)
    if generator is None:
        return records
    return within_pass_rate(
        records,
        generator,
        reward_func,
        counts,
        k=config.num_generations,
        min_pass_rate=config.min_pass_rate,
        max_pass_rate=config.max_pass_rate,
        batch_size=config.pass_rate_batch_size,
    )


def build_generator(config: PrepareConfig) -> Generator | None:
    """The generator that the settings ask for, if any."""
    if config.pass_rate_model is None:
        return None
    options = {
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "seed": config.seed,
    }
    if config.pass_rate_server is not None:
        return ServerGenerator(OpenAIServer(config.pass_rate_server, config.pass_rate_model), **options)
    return TransformersGenerator(config.pass_rate_model, **options)


def _refuse_overwriting(directory: Path, config: PrepareConfig) -> None:
    there = [path for path in (directory / DATA_FILE, directory / "README.md") if path.exists()]
    if there and not config.overwrite:
        raise FileExistsError(
            f"output={config.output!r} holds {there[0].relative_to(directory)} already. Choose another directory, or "
            "give --overwrite to replace it."
        )


def _uncontaminated(records: Iterable[Record], config: PrepareConfig, counts: Counts) -> Iterator[Record]:
    problems = [
        problem for source in config.decontaminate for problem in read_problems(source, config.decontaminate_split)
    ]
    evaluation = Decontaminator(problems, config.ngram_size, config.min_overlap)
    for record in records:
        if evaluation.is_contaminated(record.problem):
            counts.num_contaminated += 1
        else:
            yield record


def _counted(records: Iterable[Record], counts: Counts, answer_types: Counter) -> Iterator[Record]:
    for record in records:
        counts.num_kept += 1
        answer_types[answer_type(record.solution)] += 1
        yield record
    if counts.num_kept == 0:
        raise ValueError(f"No row is kept, so nothing is written: {counts}. Loosen the step that leaves out the most.")


def _card_settings(config: PrepareConfig, reward_func: RewardFunc | None) -> dict[str, object]:
    unused = {"ngram_size", "min_overlap"} if not config.decontaminate else set()
    if config.pass_rate_model is None:
        unused |= set(CARD_FIELDS[CARD_FIELDS.index("pass_rate_model") :])
    settings = {name: getattr(config, name) for name in CARD_FIELDS if name not in unused}
    settings["prompt_template"] = config.prompt_template or "as in the source; dapo around bare problems"
    for name in ("tokenizer", "pass_rate_model"):
        if settings.get(name):
            settings[name] = source_name(settings[name])
    if reward_func is not None:
        settings["pass_rate_reward"] = reward_name(reward_func)
    if config.decontaminate:
        settings["decontaminate"] = ", ".join(source_name(source) for source in config.decontaminate)
    return {name: value for name, value in settings.items() if value is not None}
