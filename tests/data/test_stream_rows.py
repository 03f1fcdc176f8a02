import json
from types import SimpleNamespace

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dapo_trl.data import sources
from dapo_trl.data.load import stream_rows


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
