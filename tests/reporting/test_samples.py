"""Completions worth reading."""

import math

import pandas as pd

from dapo_trl.reporting.runs import load_run
from dapo_trl.reporting.samples import plain_text, reward_columns, samples, shorten
from tests.reporting.made_up import rising_run, write_completions


def row(name: str, accuracy: float, advantage: float, **values) -> dict:
    common = {"answer": "3", "gold": "2", "num_tokens": 5, "is_truncated": False, "dynamic_sampling": "kept"}
    return {"completion": name, "accuracy": accuracy, "style": 0.0} | common | values | {"advantage": advantage}


def kinds(run) -> dict[str, str]:
    return {sample.kind: sample.completion for sample in samples(load_run(run, "run"))}


def test_every_kind_finds_its_completion(tmp_path):
    run = rising_run(tmp_path / "run", [0.1])
    rows = [
        row("right, as most of its group", 1.0, 0.3, answer="2"),
        row("right alone", 1.0, 2.6, answer="2"),
        row("wrong alone", -1.0, -2.6),
        row("wrong, as most of its group", -1.0, -0.3),
        row("long", -1.0, -0.3, num_tokens=90),
        row("cut off", -1.0, -0.3, num_tokens=80, is_truncated=True),
        row("reads like the gold", -1.0, -0.3, answer="2."),
        row("an evaluation's", 9.0, 9.0, dynamic_sampling="evaluation"),
    ]
    write_completions(run, 2, rows)
    assert kinds(run) == {
        "Best": "right alone",
        "Worst": "wrong alone",
        "Longest": "long",
        "Truncated": "cut off",
        "Verifier and text disagree": "reads like the gold",
    }


def test_weights_of_the_run_decide_what_is_best(tmp_path):
    run = rising_run(tmp_path / "run", [0.1], {"reward_weights": [1.0, 0.0]})
    rows = [row("right", 1.0, 0.3, answer="2"), row("stylish", -1.0, -0.3, style=5.0), row("wrong", -1.0, -0.4)]
    write_completions(run, 2, rows + [row("long", -1.0, 0.0, num_tokens=99)])
    assert kinds(run)["Best"] == "right"


def test_what_is_shown_beside_a_completion(tmp_path):
    run = rising_run(tmp_path / "run", [0.1])
    rows = [row("a", 1.0, 0.3, answer="2", verdict="math_verify", num_tokens=1200), row("b", math.nan, math.nan)]
    write_completions(run, 2, rows)
    sample = samples(load_run(run, "run"))[-1]
    assert sample.rewards == {"accuracy": 1.0, "style": 0.0} and sample.prompt == "1+1=" and sample.step == 2
    assert sample.facts == {
        "gold": "2",
        "answer found": "2",
        "verdict": "math verify",
        "length": "1,200 tokens",
        "group": "kept",
    }


def test_last_table_that_can_be_read_counts(tmp_path, caplog):
    run = rising_run(tmp_path / "run", [0.1])
    write_completions(run, 2, [row("early", 1.0, 0.3)])
    write_completions(run, 100000, [row("late", 1.0, 0.3)])
    (run / "completions" / "completions_100002.parquet").write_bytes(b"PAR1")
    assert set(kinds(run).values()) == {"late"}
    assert "completions_100002.parquet cannot be read and is passed over" in caplog.text


def test_tables_of_other_trainers_and_none_at_all(tmp_path):
    run = rising_run(tmp_path / "run", [0.1])
    assert kinds(run) == {}
    path = write_completions(run, 2, [{"completion": "aa", "r": 1.0}, {"completion": "b", "r": 0.5}])
    assert path.exists() and kinds(run) == {"Longest": "aa", "Best": "b"}
    pd.DataFrame([{"text": "somebody else's"}]).to_parquet(run / "completions" / "completions_00004.parquet")
    assert kinds(run) == {}


def test_columns_of_rewards_are_those_after_the_completion(tmp_path):
    table = pd.DataFrame(
        [{"step": 1, "prompt": "p", "completion": "c", "r": 1.0, "s": 0.5, "gold": "1", "advantage": 0.1}]
    )
    assert reward_columns(table) == ["r", "s"]


def test_texts_of_conversations():
    assert plain_text([{"role": "user", "content": "hello"}]) == "hello"
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert plain_text(turns) == "system: be brief\n\nuser: hello"
    assert plain_text(None) == ""


def test_long_texts_lose_their_middle():
    text = "a" * 5000 + "the answer"
    assert len(shorten(text)) < 2500 and shorten(text).endswith("the answer")
    assert "[... 2,610 characters left out ...]" in shorten(text)
    assert shorten("a" * 2400) == "a" * 2400
