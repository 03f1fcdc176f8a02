"""Completions worth reading."""

import math

import pandas as pd
import pytest

from dapo_trl.reporting.runs import load_run
from dapo_trl.reporting.samples import plain_text, samples
from tests.reporting.synthetic_runs import rising_run, write_completions


@pytest.fixture
def run(tmp_path):
    return rising_run(tmp_path / "run", [0.1])


def row(name: str, accuracy: float, advantage: float, **values) -> dict:
    common = {"answer": "3", "gold": "2", "num_tokens": 5, "is_truncated": False, "dynamic_sampling": "kept"}
    return {"completion": name, "accuracy": accuracy, "style": 0.0} | common | values | {"advantage": advantage}


def kinds(run) -> dict[str, str]:
    return {sample.kind: sample.completion for sample in samples(load_run(run, "run"))}


def test_every_kind_finds_its_completion(run):
    rows = [
        row("right, as most of its group", 1.0, 0.3, answer="2"),
        row("right alone", 1.0, 2.6, answer="2"),
        row("wrong alone", -1.0, -2.6),
        row("wrong, as most of its group", -1.0, -0.3),
        row("long", -1.0, -0.3, num_tokens=90),
        row("cut off", -1.0, -0.3, num_tokens=80, is_truncated=True),
        row("reads like the reference", -1.0, -0.3, answer="2."),
        row("not trained on", 1.0, math.nan, answer="2"),
        row("an evaluation's", 9.0, 9.0, dynamic_sampling="evaluation"),
    ]
    write_completions(run, 2, rows)
    assert kinds(run) == {
        "Verifier and text disagree": "reads like the reference",
        "Truncated": "cut off",
        "Longest": "long",
        "Highest advantage": "right alone",
        "Lowest advantage": "wrong alone",
    }


def test_what_is_shown_beside_a_completion(run):
    write_completions(run, 2, [row("a", 1.0, 0.3, answer="2", verdict="math_verify", note=None, num_tokens=1200)])
    (sample,) = samples(load_run(run, "run"))
    assert (sample.kind, sample.completion, sample.prompt, sample.step) == ("Longest", "a", "1+1=", 2)
    assert sample.facts == {
        "accuracy": "1",
        "style": "0",
        "answer": "2",
        "gold": "2",
        "num_tokens": "1200",
        "is_truncated": "False",
        "dynamic_sampling": "kept",
        "verdict": "math_verify",
        "advantage": "0.3",
    }


def test_last_table_that_can_be_read_counts(run, caplog):
    write_completions(run, 2, [row("early", 1.0, 0.3)])
    write_completions(run, 100000, [row("late", 1.0, 0.3)])
    (run / "completions" / "completions_100002.parquet").write_bytes(b"PAR1")
    assert set(kinds(run).values()) == {"late"}
    assert "completions_100002.parquet cannot be read and is passed over" in caplog.text


def test_tables_of_other_trainers_and_none_at_all(run):
    assert kinds(run) == {}
    rows = [{"completion": "aa", "r": 1.0, "advantage": 0.7}, {"completion": "b", "r": 0.5, "advantage": -0.7}]
    write_completions(run, 2, rows)
    assert kinds(run) == {"Longest": "aa", "Highest advantage": "b"}
    pd.DataFrame([{"text": "somebody else's"}]).to_parquet(run / "completions" / "completions_00004.parquet")
    assert kinds(run) == {}


def test_texts_of_conversations():
    assert plain_text([{"role": "user", "content": "hello"}]) == "user: hello"
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert plain_text(turns) == "system: be brief\n\nuser: hello"
    assert plain_text(None) == ""
