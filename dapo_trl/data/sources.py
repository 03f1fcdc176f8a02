"""What a source is: a local file, a local directory, or a data set on the Hub; and which files hold its rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import load_dataset_builder
from datasets.exceptions import DatasetNotFoundError


BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


def check_path(source: str) -> Path:
    """
    A source as a path, which need not exist if it may be a Hub id.

    Raises:
        FileNotFoundError: if it can only be a path, and nothing is there.
        ValueError: if it is a file of another kind, or an empty one.
    """
    path = Path(source).expanduser()
    is_data_file = path.suffix.lower() in BUILDERS
    if path.is_file() and not is_data_file:
        raise ValueError(f"{source!r}: files must end in {', '.join(BUILDERS)}. Convert the file to one of these.")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{source!r} is empty. Name a file that has rows.")
    if not path.exists() and (is_data_file or path.is_absolute() or source.startswith(("./", "../", "~"))):
        raise FileNotFoundError(
            f"{source!r} looks like a local path, and there is no such file (looked for {path.absolute()}). Correct "
            "the path, or give the id of a data set on the Hub (`owner/name`)."
        )
    return path


def find_files(source: str, split: str = "train", config: str | None = None) -> list[str] | None:
    """
    The files with the rows of a split: local paths, or `hf://` addresses.

    Returns:
        `list[str]` or `None`: `None` for a data set on the Hub with other files than JSON and parquet.

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if there is no such split, or a directory holds other files.
    """
    path = check_path(source)
    if path.is_file():
        return [str(path)]
    with with_both_readings(source):
        builder = load_dataset_builder(str(path) if path.is_dir() else source, config)
    splits = builder.config.data_files or {}
    if splits and split not in splits:
        raise ValueError(
            f"split={split!r}: {source!r} has the splits {', '.join(map(str, splits))}. Choose one of them."
        )
    files = [str(file) for file in splits.get(split, ())]
    if files and all(file_suffix(file) in BUILDERS for file in files):
        return files
    if path.is_dir():
        raise ValueError(
            f"{source!r}: the files in it must end in {', '.join(BUILDERS)}. Convert them to one of these."
        )
    return None


def file_suffix(file: str) -> str:
    """The ending of a file name, in lower case and with the dot."""
    return Path(file).suffix.lower()


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
