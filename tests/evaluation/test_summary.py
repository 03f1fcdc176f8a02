"""The file of a summary."""

import pytest

from dapo_trl.evaluation.summary import SummaryError, read_summary, write_summary


def test_write_and_read(tmp_path):
    summary = {"format_version": 1, "measures": {"avg@4": {"mean": 0.5, "low": None, "high": None}}}
    path = tmp_path / "summary.json"
    write_summary(summary, path)
    assert read_summary(path) == summary
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a summary: .*No such file"),
        ("{", "cannot be read as a summary: "),
        ("[1]", "is not a summary of this version: format_version=None, not 1"),
        ('{"format_version": 2}', "format_version=2, not 1. Give a summary-"),
    ],
)
def test_what_is_no_summary(tmp_path, content, message):
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SummaryError, match=message):
        read_summary(path)
