"""Directories: every row is read, once, or none."""

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict

from dapo_trl.data import load_prompts, sources
from dapo_trl.data.load import stream_rows


CONFIGS = "---\nconfigs:\n- config_name: default\n  data_files: a.jsonl\n---\n# Sums\n"


def write(path: Path, number: int) -> None:
    """Two rows of their own for every number, or a text, by the file's ending."""
    rows = [{"problem": f"{number}+{n}=", "answer": str(number + n)} for n in range(2)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix.lower():
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case ".csv":
            path.write_text("problem,answer\n1+1=,2\n")
        case ".md":
            path.write_text(CONFIGS)
        case _:
            path.write_text(lines)


@pytest.fixture
def directory(tmp_path):
    """A directory with files of these names."""

    def make(*names: str) -> Path:
        for number, name in enumerate(names):
            write(tmp_path / "sums" / name, 10 * number)
        return tmp_path / "sums"

    return make


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jsonl", "b.parquet"], "would not be read, because only files of one kind are"),
        (["x/a.json", "a.jsonl", "y/b.parquet"], "a.jsonl, x/a.json would not be read"),
        (["a.csv", "b.parquet", "c.parquet"], r"a.csv would not be read, .* \(here b.parquet, c.parquet\)"),
        (["a.jsonl", "b.jsonl.gz"], "the files in it must end in"),
        (["train.jsonl", "test.parquet"], "the same data file format for all splits.*Leave files of one kind"),
        (["train.jsonl", "more.jsonl"], r"more.jsonl would not be read, .* the splits in their names \(train\)"),
        (["train/a.jsonl", "b.jsonl"], "b.jsonl would not be read"),
    ],
)
def test_rows_that_would_be_lost_are_refused(directory, names, message):
    source = str(directory(*names))
    for read in (load_prompts, lambda source: next(stream_rows(source))):
        with pytest.raises(ValueError, match=f"{re.escape(source)}'.*{message}"):
            read(source)


def test_empty_files_repeat_nothing(directory):
    source = directory("a.jsonl")
    for name in ("b.jsonl", "c.jsonl"):
        (source / name).touch()
    assert len(load_prompts(str(source))) == 2


@pytest.mark.parametrize(
    ("names", "num_rows"),
    [
        (["a.jsonl", "b.jsonl", "x/c.jsonl"], 6),
        (["a.json", "b.jsonl"], 4),
        (["train.jsonl", "test.jsonl"], 2),
        (["train/a.jsonl", "train/b.jsonl", "test/c.jsonl"], 4),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], 4),
        (["latest.jsonl", "contest.jsonl"], 4),
        # Hidden, no data, and what the card leaves out.
        (["a.jsonl", ".a.parquet", ".ipynb_checkpoints/b.parquet", "__pycache__/c.csv"], 2),
        (["a.jsonl", "LICENSE.txt", "dataset_info.json", "script.py"], 2),
        (["a.jsonl", "b.parquet", "README.md"], 2),
    ],
)
def test_directories_that_are_read_whole(directory, names, num_rows):
    source = str(directory(*names))
    assert len(load_prompts(source)) == len(list(stream_rows(source))) == num_rows


@pytest.mark.parametrize("kind", [Dataset, DatasetDict, IterableDatasetDict])
@pytest.mark.parametrize("read", [load_prompts, lambda source: next(stream_rows(source))])
def test_data_that_is_loaded_already(kind, read):
    rows = Dataset.from_dict({"prompt": ["Q?"], "solution": ["1"]})
    dataset = rows if kind is Dataset else kind(train=rows, test=rows)
    with pytest.raises(TypeError, match=f"is a {kind.__name__}.* must be a .*path.* than the columns `prompt`"):
        read(dataset)


@pytest.mark.parametrize("kind", [Dataset, DatasetDict])
def test_directories_of_save_to_disk(kind, tmp_path):
    rows = Dataset.from_dict({"prompt": ["Q?"], "solution": ["1"]})
    (rows if kind is Dataset else kind(train=rows)).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"was written by save_to_disk. Write each split to a file: .*to_parquet"):
        load_prompts(str(tmp_path))


ROWS = [{"problem": f"Q{n}?", "answer": n} for n in range(2500)]


def test_parquet_over_several_batches(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet", row_group_size=700)
    assert list(stream_rows(str(tmp_path / "rows.parquet"))) == ROWS


@pytest.mark.parametrize("text", [json.dumps(ROWS), "\n".join(map(json.dumps, ROWS)), "\n\n" + json.dumps(ROWS[0])])
def test_json_as_list_or_lines(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    expected = ROWS if "Q2499?" in text else ROWS[:1]
    assert list(stream_rows(str(tmp_path / "rows.json"))) == expected


def test_directory_with_splits(tmp_path):
    for name, row in (("train", ROWS[0]), ("test", ROWS[1])):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    assert list(stream_rows(str(tmp_path), "test")) == [ROWS[1]]
    with pytest.raises(ValueError, match=r"split='validation'.*has the splits train, test"):
        list(stream_rows(str(tmp_path), "validation"))


def test_directory_with_other_files_or_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"doesn't contain any data files"):
        list(stream_rows(str(tmp_path)))
    (tmp_path / "train.csv").write_text("problem,answer\nQ0?,0\n")
    with pytest.raises(ValueError, match=r"the files in it must end in .json, .jsonl, .parquet"):
        list(stream_rows(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", '{"a": 1}\n{"a":\n', r"rows.jsonl' cannot be read: line 2 is not JSON"),
        ("rows.json", '[{"a": 1},', r"rows.json' cannot be read: it is not JSON"),
        ("rows.jsonl", '{"a": 1}\n7\n', r"rows.jsonl': line 2 is a int, but a row must be an object"),
        ("rows.parquet", "no parquet at all", r"rows.parquet' cannot be read: .*complete parquet file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list(stream_rows(str(tmp_path / name)))


def test_files_of_the_hub_are_read_where_they_are(monkeypatch):
    # `memory://` stands for `hf://`: both are file systems of fsspec.
    with fsspec.open("memory://owner/name/train.parquet", "wb") as stream:
        pq.write_table(pa.Table.from_pylist(ROWS[:3]), stream)
    config = SimpleNamespace(data_files={"train": ["memory://owner/name/train.parquet"]})
    monkeypatch.setattr(sources, "load_dataset_builder", lambda source, name: SimpleNamespace(config=config))
    assert list(stream_rows("owner/name")) == ROWS[:3]
