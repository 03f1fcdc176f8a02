"""Problems, each once, from presets and files."""

import json

import httpx
import pytest

from dapo_trl.evaluation.presets import PRESETS, DataSource, find_source
from dapo_trl.evaluation.problems import load_problems


@pytest.fixture
def write(tmp_path):
    """Writes rows to a JSON-lines file; returns it as a source."""

    def write(*rows: dict, name: str = "rows") -> DataSource:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return find_source(str(path))

    return write


def aime_row(number: int, repetition: int) -> dict:
    """A row as in the AIME 2024 file of the DAPO authors."""
    problem = f"What is {number} + {number}?"
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{problem}\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": content}],
        "ability": "MATH",
        "reward_model": {"ground_truth": str(2 * number), "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": 30 * repetition + number, "raw_problem": problem, "split": None},
    }


def test_the_aime_file_of_960_rows_is_30_problems(write, caplog):
    caplog.set_level("INFO")
    source = write(*(aime_row(number, repetition) for repetition in range(32) for number in range(30)), name="aime")
    problems = load_problems(source, conversational=True)
    assert [record.solution for record in problems.records] == [str(2 * number) for number in range(30)]
    assert (problems.num_rows, problems.source.name) == (960, "aime")
    assert problems.records[3].problem == "What is 3 + 3?"
    assert "aime: 930 of the 960 rows repeat a problem. Each of the 30 problems is evaluated once" in caplog.text


def test_prompts_are_those_of_training(write):
    source = write({"question": "1+1?", "answer": "It is #### 2"})
    chat = load_problems(source, conversational=True).records[0]
    text = load_problems(source, conversational=False).records[0]
    assert chat.prompt == [{"role": "user", "content": text.prompt}]
    assert text.prompt.startswith("Solve the following math problem step by step.") and "1+1?" in text.prompt
    assert (text.solution, text.problem) == ("2", "1+1?")
    assert load_problems(source, conversational=False, prompt_template="plain").records[0].prompt == "1+1?"


def test_what_cannot_be_evaluated_is_left_out_with_a_warning(write, caplog):
    rows = [{"problem": "a", "answer": "1"}, {"problem": "b", "answer": "1"}, {"problem": "b", "answer": "2"}]
    problems = load_problems(write(*rows, {"problem": "c", "answer": ""}), conversational=False)
    assert [record.problem for record in problems.records] == ["a"]
    assert "rows: 2 of the 4 rows left out: of problems with different reference answers." in caplog.text
    assert "rows: 1 of the 4 rows left out: without a readable prompt or reference answer." in caplog.text


def test_nothing_left_is_an_error(write):
    with pytest.raises(ValueError, match="has no problem that could be evaluated"):
        load_problems(write({"problem": "b", "answer": "1"}, {"problem": "b", "answer": "2"}), conversational=False)


def test_the_first_problems_only(write):
    source = write(*({"problem": str(number), "answer": "1"} for number in range(5)))
    problems = load_problems(source, conversational=False, num_problems=2)
    assert [record.problem for record in problems.records] == ["0", "1"]


def test_hashes_tell_data_and_prompts_apart(write):
    rows = [{"problem": "a", "answer": "1"}, {"problem": "b", "answer": "2"}]
    given = load_problems(write(*rows), conversational=False)
    reordered = load_problems(write(*reversed(rows)), conversational=False)
    reworded = load_problems(write(*rows), conversational=False, prompt_template="boxed")
    other_gold = load_problems(write(rows[0], {"problem": "b", "answer": "3"}), conversational=False)
    assert given.problems_hash == reordered.problems_hash == reworded.problems_hash != other_gold.problems_hash
    assert given.prompts_hash == reordered.prompts_hash == other_gold.prompts_hash != reworded.prompts_hash


# Where data is from


def test_presets_name_their_split():
    assert {name: (preset.source, preset.split, preset.config) for name, preset in PRESETS.items()} == {
        "aime24": ("BytedTsinghua-SIA/AIME-2024", "train", None),
        "aime25": ("math-ai/aime25", "test", None),
        "math500": ("HuggingFaceH4/MATH-500", "test", None),
        "gsm8k": ("openai/gsm8k", "test", "main"),
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("gsm8k",), DataSource("gsm8k", "openai/gsm8k", "test", "main")),
        (("gsm8k", "train"), DataSource("gsm8k", "openai/gsm8k", "train", "main")),
        (("data/held.out.jsonl",), DataSource("held.out", "data/held.out.jsonl", "train")),
        (("owner/name-1.5", None, "x"), DataSource("name-1.5", "owner/name-1.5", "train", "x")),
    ],
)
def test_source(arguments, expected):
    assert find_source(*arguments) == expected


def test_a_misspelt_preset_is_told_the_presets(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"data='aime42' is not one of the presets \(aime24, aime25, math500"):
        find_source("aime42")
    assert find_source("aime42.jsonl").name == "aime42"  # reading it says which path was looked for
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aime42").mkdir()
    assert find_source("aime42") == DataSource("aime42", "aime42", "train")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_without_the_hub_names_the_way_out(name, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setattr("dapo_trl.data.sources.load_dataset_builder", refuse)
    with pytest.raises(FileNotFoundError, match=rf"data='{name}' is a preset, .*\(offline\).* --data_file,") as error:
        load_problems(find_source(name), conversational=False)
    assert "Correct the path or the id" not in str(error.value)


def test_a_connection_that_is_lost_in_a_file_of_a_preset(monkeypatch):
    def lost(*args):
        yield {"problem": "Q?", "answer": "1"}
        raise httpx.ReadError("connection lost")

    monkeypatch.setattr("dapo_trl.data.records.stream_rows", lost)
    with pytest.raises(FileNotFoundError, match=r"data='aime25' is a preset, .*\(connection lost\).* --data_file,"):
        load_problems(find_source("aime25"), conversational=False)


def test_a_local_copy_of_a_preset():
    assert find_source("gsm8k", data_file="copy.jsonl") == DataSource("gsm8k", "copy.jsonl", "test", "main")
    with pytest.raises(ValueError, match="data_file='f.jsonl' stands in for a preset, but data='mine' is not one"):
        find_source("mine", data_file="f.jsonl")


def test_other_data_without_the_hub(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setattr("dapo_trl.data.sources.load_dataset_builder", refuse)
    with pytest.raises(FileNotFoundError, match=r"'own/data' is neither a local file .*Correct the path or the id"):
        load_problems(find_source("own/data"), conversational=False)
    with pytest.raises(FileNotFoundError, match="copy.jsonl' looks like a local path"):
        load_problems(find_source(str(tmp_path / "copy.jsonl")), conversational=False)
