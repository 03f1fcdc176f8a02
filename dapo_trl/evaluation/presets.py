"""Benchmarks by name, and what `--data` means."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..data.files import BUILDERS


@dataclass(frozen=True)
class DataSource:
    """Where problems are read from."""

    name: str  # in results
    source: str  # Hub id or local path
    split: str
    config: str | None = None  # of a data set on the Hub


# Their columns are among the layouts that `load_prompts` recognises.
PRESETS = {
    preset.name: preset
    for preset in (
        DataSource("aime24", "BytedTsinghua-SIA/AIME-2024", "train"),  # of the DAPO authors: each problem 32 times
        DataSource("aime25", "math-ai/aime25", "test"),
        DataSource("math500", "HuggingFaceH4/MATH-500", "test"),
        DataSource("gsm8k", "openai/gsm8k", "test", "main"),
    )
}


def find_source(
    data: str, split: str | None = None, config: str | None = None, data_file: str | None = None
) -> DataSource:
    """What `--data` and the settings beside it mean: a preset, a Hub id, or the path of a file or directory."""
    if preset := PRESETS.get(data):
        source, split = data_file or preset.source, split or preset.split
        return replace(preset, source=source, split=split, config=config or preset.config)
    if data_file is not None:
        raise ValueError(
            f"data_file={data_file!r} stands in for a preset, but data={data!r} is not one ({', '.join(PRESETS)}). "
            "Give the file as data."
        )
    path = Path(data)
    is_file = path.suffix.lower() in BUILDERS  # a missing one is reported, with its full path, where it is read
    if not (is_file or "/" in data or path.exists()):
        raise FileNotFoundError(
            f"data={data!r} is not one of the presets ({', '.join(PRESETS)}), and there is no such file or directory. "
            "Give a preset, the path of a file, or the id of a data set on the Hub (`owner/name`)."
        )
    return DataSource(path.stem if is_file else path.name, data, split or "train", config)
