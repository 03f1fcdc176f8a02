"""Completions are written as they come, and continued after any kind of end."""

import json

import pytest

from dapo_trl.data.records import Record
from dapo_trl.evaluation.completions import (
    Completion,
    CompletionsFile,
    CompletionsFileError,
    Request,
    make_requests,
    sample_seed,
)
from tests.helpers import char_tokenizer


SETTINGS = {"temperature": 1.0}


def request(sample: int) -> Request:
    return Request("p", sample, seed=10 + sample, prompt="1+1=", prompt_ids=[])


@pytest.fixture
def path(tmp_path):
    """A file with samples 0 and 1 of problem p."""
    path = tmp_path / "new" / "completions.jsonl"
    with CompletionsFile(path, SETTINGS) as file:
        for sample in range(2):
            file.add(request(sample), Completion(f"is {sample}\ud800é", 3, sample == 1))
    return path


def test_what_is_added_comes_back(path):
    with CompletionsFile(path, SETTINGS) as file:
        assert file.done == {("p", 0), ("p", 1)}
        assert list(file.rows())[1] == {
            "problem": "p",
            "sample": 1,
            "seed": 11,
            "completion": "is 1\ud800é",
            "num_tokens": 3,
            "is_truncated": True,
        }


def test_every_sample_is_there_at_once(tmp_path):
    with CompletionsFile(tmp_path / "f.jsonl", SETTINGS) as file:
        for sample in range(3):
            file.add(request(sample), Completion("text", 1, False))
            assert len((tmp_path / "f.jsonl").read_text().splitlines()) == sample + 2  # with the header


@pytest.mark.parametrize("half", ['{"problem": "p", "sam', "{", '{"problem": "p", "sample": 2, "completion": "x"}'])
def test_a_half_written_last_line_is_dropped(path, half, caplog):
    before = path.read_bytes()
    path.write_bytes(before + half.encode())
    caplog.set_level("INFO")
    with CompletionsFile(path, SETTINGS) as file:
        assert file.done == {("p", 0), ("p", 1)}
        file.add(request(2), Completion("again", 1, False))
    assert path.read_bytes().startswith(before)
    assert [row["sample"] for row in CompletionsFile(path, SETTINGS).rows()] == [0, 1, 2]
    assert "the last line was half written; its sample is drawn again" in caplog.text


def test_a_half_written_long_line_is_dropped(path):
    before = path.read_bytes()
    path.write_bytes(before + b"x" * 200_000)
    with CompletionsFile(path, SETTINGS):
        assert path.read_bytes() == before


def test_a_half_written_header_is_written_again(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"settings": {"temp')
    with CompletionsFile(path, SETTINGS) as file:
        assert file.done == set()
    assert json.loads(path.read_text()) == {"settings": SETTINGS}


def test_a_damaged_line_in_the_middle_is_named(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"problem": "p"\n' + lines[2])
    with pytest.raises(CompletionsFileError, match="line 2, is not a sample. Remove the line to sample it again"):
        CompletionsFile(path, SETTINGS).__enter__()


def test_other_settings_are_refused(path):
    with pytest.raises(CompletionsFileError, match="does not begin with the settings of this evaluation"):
        CompletionsFile(path, {"temperature": 0.5}).__enter__()


def test_two_evaluations_do_not_write_one_file(path):
    second = CompletionsFile(path, SETTINGS)
    with CompletionsFile(path, SETTINGS), pytest.raises(CompletionsFileError, match="is being written by another"):
        second.__enter__()
    with CompletionsFile(path, SETTINGS) as file:
        assert len(file.done) == 2


def test_seeds_depend_on_evaluation_problem_and_sample_only():
    prompts = {"a": "a?", "b": [{"role": "user", "content": "b?"}]}
    records = [Record(name, prompt, "1", name, "test") for name, prompt in prompts.items()]
    tokenizer = char_tokenizer("{% if brief %}<{% endif %}{{ messages[0].content }}")
    few, many = (make_requests(records, k, 1, tokenizer, {"brief": True}) for k in (2, 4))
    assert [(request.problem, request.sample) for request in few] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [tokenizer.decode(request.prompt_ids) for request in few] == ["a?", "a?", "<b?", "<b?"]
    assert all(request in many for request in few)
    seeds = [request.seed for request in many]
    assert len(set(seeds)) == 8
    assert sample_seed(1, "a", 0) != sample_seed(2, "a", 0)
    assert all(0 <= seed < 2**31 for seed in seeds)
