"""Evaluations as tables."""

import json

import pytest

from dapo_trl.evaluation.summary import SummaryError
from dapo_trl.reporting.evaluations import find_summaries, tables
from dapo_trl.reporting.runs import load_runs
from tests.reporting.made_up import rising_run, summary


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_given_ones_come_first_and_those_of_runs_are_found(tmp_path):
    run = rising_run(tmp_path / "dapo", [0.1])
    write(run / "evaluation" / "summary-sums.json", summary("x", [[1, 1], [1, 1]]))
    write(run / "checkpoint-8" / "evaluation" / "summary-sums.json", summary("x", [[1, 0], [0, 1]]))
    given = write(tmp_path / "before.json", summary("/models/before", [[0, 0], [0, 1]]))
    found = find_summaries(load_runs([run]), [given])
    assert [name for name, _ in found] == ["before", "dapo checkpoint-8", "dapo"]
    (table,) = tables(found)
    assert (table.title, table.names) == ("sums", ["avg@2", "pass@2"])
    assert table.subtitle == "2 problems, k = 2, temperature 1, top_p 0.7, answer rule auto-1"
    assert [row.measures["avg@2"] for row in table.rows] == [
        ("25.0", "12.5 to 100.0"),
        ("50.0", "25.0 to 100.0"),
        ("100.0", "50.0 to 100.0"),
    ]
    # Gains of the two problems: 1/2 and 0, then 1 and 1/2.
    assert [row.difference[0] for row in table.rows] == ["", "+25.0", "+75.0"]
    assert table.rows[1].difference[1] == "+0.0 to +50.0"
    assert (table.rows[0].truncated, table.rows[0].length) == ("12.5%", "1,234")


def test_other_problems_are_another_table():
    both = [("a", summary("a", [[1, 0]])), ("b", summary("b", [[1, 0]], data="AIME"))]
    assert [table.title for table in tables(both)] == ["sums", "AIME"]


def test_what_is_no_summary_is_an_error_only_if_given(tmp_path, caplog):
    run = rising_run(tmp_path / "dapo", [0.1])
    broken = write(run / "evaluation" / "summary-sums.json", "{")
    assert find_summaries(load_runs([run]), []) == []
    assert "cannot be read as a summary" in caplog.text
    with pytest.raises(SummaryError, match="cannot be read as a summary"):
        find_summaries(load_runs([run]), [broken])
