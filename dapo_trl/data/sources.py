"""What a source is: a local file, a local directory, or a data set on the Hub; and which files hold its rows."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import load_dataset_builder
from datasets.data_files import FILES_TO_IGNORE
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import DatasetCard

from .files import BUILDERS, file_kind


_OTHER_DATA = (".arrow", ".csv", ".feather", ".ndjson", ".orc", ".pkl", ".tsv", ".xlsx", ".xml")
_ARCHIVES = (".7z", ".bz2", ".gz", ".lz4", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst")


def check_path(source: str) -> Path:
    """A source as a path, which need not exist if it may be a Hub id; else an error says what is wrong with it."""
    if not isinstance(source, str):
        raise TypeError(
            f"The source is a {type(source).__name__}, but it must be a path or the id of a data set on the Hub. One "
            "that is loaded already needs no more than the columns `prompt` and `solution`: rename its columns."
        )
    path = Path(source).expanduser()
    is_data_file = path.suffix.lower() in BUILDERS
    if path.is_file() and not is_data_file:
        raise ValueError(f"{source!r}: files must end in {', '.join(BUILDERS)}. Convert the file to one of these.")
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        raise ValueError(
            f"{source!r} was written by save_to_disk. Write each split to a file: "
            "load_from_disk(...)['train'].to_parquet('train.parquet'), and name that."
        )
    if not path.exists() and (is_data_file or path.is_absolute() or source.startswith(("./", "../", "~"))):
        raise FileNotFoundError(
            f"{source!r} looks like a local path, and there is no such file (looked for {path.absolute()}). Correct "
            "the path, or give the id of a data set on the Hub (`owner/name`)."
        )
    return path


def find_files(source: str, split: str = "train", config: str | None = None) -> list[str] | None:
    """The files of a split (local paths or `hf://`); None on the Hub if they are neither JSON nor parquet."""
    path = check_path(source)
    if path.is_file():
        return [str(path)]
    root = path.resolve() if path.is_dir() else None
    try:
        with with_both_readings(source):
            builder = load_dataset_builder(str(root or source), config)
    except ValueError as error:  # such as files of different kinds for different splits
        raise ValueError(
            f"{source!r}: {error}. Leave files of one kind in a directory, or name the file to read."
        ) from error
    splits = builder.config.data_files or {}
    if root:
        _check_all_are_read(root, splits)
    if splits and split not in splits:
        raise ValueError(
            f"split={split!r}: {source!r} has the splits {', '.join(map(str, splits))}. Choose one of them."
        )
    files = [str(file) for file in splits.get(split, ())]
    if files and all(map(file_kind, files)):
        return files
    if root:
        raise ValueError(
            f"{source!r}: the files in it must end in {', '.join(BUILDERS)}. Convert them to one of these."
        )
    return None


def _check_all_are_read(directory: Path, splits: dict[str, list[str]]) -> None:
    """Is there a file, at any depth, that seems to hold rows and that `datasets` would pass over without a word?"""
    card = directory / "README.md"
    if card.is_file() and DatasetCard.load(card, ignore_metadata_errors=True).data.get("configs"):
        return  # the card says which files are read: the others are left out on purpose
    read = {str(file) for files in splits.values() for file in files}
    unread = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and path.suffix.lower() in {*BUILDERS, *_OTHER_DATA, *_ARCHIVES}
        and path.name not in FILES_TO_IGNORE
        and not any(part.startswith((".", "__")) for part in path.relative_to(directory).parts)
        and str(path) not in read
    )
    if unread:
        raise ValueError(
            f"'{directory}': {_names(directory, unread)} would not be read, because only files of one kind are (here "
            f"{_names(directory, read)}), by the splits in their names ({', '.join(map(str, splits))}). Name the "
            "file to read, or say in the directory's README.md which files are read (`configs`)."
        )


def _names(directory: Path, files: Iterable[str | Path]) -> str:
    names = sorted(os.path.relpath(file, directory) for file in files)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def is_hub_id(output: str) -> bool:
    """Whether an output is `owner/name` on the Hub. It is not if a directory `owner` exists here."""
    owner, _, name = output.partition("/")
    part = r"[A-Za-z0-9][\w.-]*"
    return bool(re.fullmatch(part, owner) and re.fullmatch(part, name)) and not Path(owner).exists()


@contextmanager
def with_both_readings(source: str) -> Iterator[None]:
    """Turns the errors of a Hub that does not know a data set into one that says both readings of the source."""
    try:
        yield
    except (DatasetNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"{source!r} is neither a local file or directory (looked for {Path(source).absolute()}) nor a data set "
            f"that could be reached on the Hub ({error}). Correct the path or the id; private data sets need a login."
        ) from error
