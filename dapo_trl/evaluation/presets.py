"""Benchmarks by name."""

from dataclasses import dataclass
from pathlib import Path

from ..data.files import BUILDERS


@dataclass(frozen=True)
class DataSource:
    """
    Where problems are read from.

    Attributes:
        name (`str`): what the data is called in results.
        source (`str`): Hub id or local path.
        split (`str`): split to read.
        config (`str`, *optional*): configuration of a data set on the Hub.
    """

    name: str
    source: str
    split: str
    config: str | None = None


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
    data: str, data_file: str | None = None, split: str | None = None, config: str | None = None
) -> DataSource:
    """
    What `--data` and the settings beside it mean.

    Args:
        data (`str`): name of a preset, Hub id, or path of a file or directory.
        data_file (`str`, *optional*): local file to read in place of the preset's data set on the Hub.
        split, config (`str`, *optional*): beat the preset's; the split of other data is `train`.

    Raises:
        ValueError: if `data_file` is given without a preset.
        FileNotFoundError: if the data can be neither a preset, nor a local path, nor `owner/name` on the Hub.
    """
    preset = PRESETS.get(data)
    if preset is None:
        if data_file is not None:
            raise ValueError(
                f"data_file={data_file!r} stands in for a preset, but data={data!r} is none ({', '.join(PRESETS)}). "
                "Give the file as data."
            )
        _check_name(data)
        name = Path(data).stem if Path(data).suffix.lower() in BUILDERS else Path(data).name
        return DataSource(name, data, split or "train", config)
    return DataSource(data, data_file or preset.source, split or preset.split, config or preset.config)


def _check_name(data: str) -> None:
    path = Path(data)
    # A missing file is reported, with its full path, where it is read.
    if "/" in data or path.suffix.lower() in BUILDERS or path.exists():
        return
    raise FileNotFoundError(
        f"data={data!r} is none of the presets ({', '.join(PRESETS)}), and there is no such file or directory. Give a "
        "preset, the path of a file, or the id of a data set on the Hub (`owner/name`)."
    )
