"""The command, from source files to a data set with its card."""

import json
import re

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from dapo_trl.commands.prepare_data import main
from dapo_trl.data import load_prompts


def dapo_row(problem, gold):
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{problem}\n\nRemember to put your "
        'answer on its own line after "Answer:".'
    )
    reward_model = {"ground_truth": gold, "style": "rule-lighteval/MATH_v2"}
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": content}],
        "reward_model": reward_model,
    }


@pytest.fixture
def dapo_file(write_jsonl):
    return write_jsonl(
        "dapo.jsonl",
        dapo_row("What is 1 + 1?", "2"),
        dapo_row("What is  2 + 2?", "4"),
        dapo_row("What is 1 + 1?", "2"),
        dapo_row("What is 3 + 3?", "6"),
        dapo_row("What is 2\n+ 2?", "4.0"),
        dapo_row("What is 3 + 3?", "7"),
        dapo_row("What is 3 + 3?", "6"),
        dapo_row("What is 5 + 5?", None),
        dapo_row("What is 4 + 4?", "8"),
    )


def rows_of(directory):
    return pq.read_table(directory / "data" / "train-00000-of-00001.parquet").to_pylist()


def test_repetitions_conflicts_and_gaps_are_left_out_and_counted(dapo_file, tmp_path, capsys):
    main(["--source", dapo_file, "--output", str(tmp_path / "out"), "--prompt_template", "plain"])
    rows = rows_of(tmp_path / "out")
    assert [(row["problem"], row["solution"]) for row in rows] == [
        ("What is 1 + 1?", "2"),
        ("What is  2 + 2?", "4"),
        ("What is 4 + 4?", "8"),
    ]
    assert list(rows[0]) == ["id", "prompt", "solution", "problem", "source"]
    assert rows[0]["prompt"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert rows[0]["source"] == "math_dapo"
    assert len({row["id"] for row in rows}) == 3
    card = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "| Rows read | 9 |",
        "| Rows without a readable prompt or answer, left out | 1 |",
        "| Repetitions of a problem with the same answer, left out | 2 |",
        "| Rows of problems with conflicting answers, left out | 3 |",
        "| ... which are so many problems | 1 |",
        "| **Problems kept** | 3 |",
        "prompt_template: plain",
    ):
        assert line in card.splitlines()
    assert "Problems kept: 3" in capsys.readouterr().out.splitlines()


def test_card_is_valid_for_the_hub(dapo_file, tmp_path):
    main(["--source", dapo_file, "--output", str(tmp_path / "out")])
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.configs == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/train-00000-of-00001.parquet"}],
        }
    ]
    assert card.data.pretty_name == "dapo, prepared"


def test_same_input_same_bytes(dapo_file, tmp_path):
    written = []
    for name in ("one", "another"):
        main(["--source", dapo_file, "--output", str(tmp_path / name)])
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append([(str(path.relative_to(tmp_path / name)), path.read_bytes()) for path in files])
    assert [name for name, _ in written[0]] == ["README.md", "data/train-00000-of-00001.parquet"]
    assert written[0] == written[1]


def test_prepared_data_is_a_source_again(dapo_file, tmp_path):
    main(["--source", dapo_file, "--output", str(tmp_path / "out")])
    main(["--source", str(tmp_path / "out"), "--output", str(tmp_path / "again"), "--prompt_template", "boxed"])
    first, again = rows_of(tmp_path / "out"), rows_of(tmp_path / "again")
    assert [row["id"] for row in first] == [row["id"] for row in again]
    assert again[0]["prompt"][0]["content"].endswith("put your final answer within \\boxed{}.")
    assert load_prompts(str(tmp_path / "out"))["solution"][:] == ["2", "4", "8"]


def test_evaluation_problems_are_left_out(dapo_file, write_jsonl, tmp_path):
    evaluation = write_jsonl("eval.jsonl", {"problem": "what is 4 + 4"})
    main(["--source", dapo_file, "--output", str(tmp_path / "out"), "--decontaminate", evaluation])
    assert [row["solution"] for row in rows_of(tmp_path / "out")] == ["2", "4"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Problems that overlap with evaluation sets, left out | 1 |" in card
    assert "- eval.jsonl" in card


def test_prompts_over_the_token_limit_are_left_out(write_jsonl, tokenizer_path, tmp_path):
    source = write_jsonl("rows.jsonl", {"prompt": "a a a", "answer": "1"}, {"prompt": "a a a a", "answer": "2"})
    arguments = ["--tokenizer", tokenizer_path, "--max_prompt_tokens", "3"]
    main(["--source", source, "--output", str(tmp_path / "out"), *arguments])
    assert [row["solution"] for row in rows_of(tmp_path / "out")] == ["1"]
    assert "over the token limit, left out | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_prepared_directories_of_the_same_name_are_told_apart(write_jsonl, tmp_path):
    for number in (1, 2):
        source = write_jsonl("rows.jsonl", {"problem": f"Q{number}?", "answer": number})
        main(["--source", source, "--output", str(tmp_path / str(number) / "out")])
    for number in (1, 2):
        assert load_prompts(str(tmp_path / str(number) / "out"))["solution"][:] == [str(number)]
    main(["--source", source, "--output", str(tmp_path / "1" / "out"), "--overwrite"])
    assert load_prompts(str(tmp_path / "1" / "out"))["solution"][:] == ["2"]


def test_existing_data_are_not_overwritten_unasked(dapo_file, tmp_path):
    arguments = ["--source", dapo_file, "--output", str(tmp_path / "out")]
    main(arguments)
    with pytest.raises(FileExistsError, match=r"out' holds data/train-00000-of-00001.parquet already.*--overwrite"):
        main(arguments)
    main([*arguments, "--overwrite"])


def test_columns_of_which_most_rows_have_no_gold_are_refused(write_jsonl, tmp_path):
    rows = [{"problem": "Q?", "solution": "Clearly."}] * 2 + [{"problem": "Q?", "solution": "\\boxed{1}"}]
    with pytest.raises(ValueError, match=r"rows.jsonl': 2 of 3 rows have no readable .*worked `solution`.*_column"):
        main(["--source", write_jsonl("rows.jsonl", *rows), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "data" / "train-00000-of-00001.parquet").exists()


def test_nothing_kept_is_an_error(write_jsonl, tmp_path):
    source = write_jsonl("rows.jsonl", {"problem": "Q?", "answer": "1"}, {"problem": "Q?", "answer": "2"})
    with pytest.raises(ValueError, match=r"No row is kept.*num_conflicting=2"):
        main(["--source", source, "--output", str(tmp_path / "out")])


def test_check_of_the_command_fails_with_the_rows(write_jsonl, capsys):
    good = write_jsonl("good.jsonl", *({"problem": f"{n}?", "answer": n} for n in range(200)))
    main(["--source", good, "--check"])
    assert re.search(
        r"^reference answers that score, accuracy \(auto-\d+\): 100.00%$", capsys.readouterr().out, re.MULTILINE
    )
    with pytest.raises(SystemExit) as exit_info:
        main(["--source", good, "--check", "--answer_rule", "boxed", "--check_sample", "150"])
    assert "answer '26' as 'Answer: 26': reward -1, judged wrong\n  ... and 130 more" in exit_info.value.code
    assert "rows checked: 150 of 200" in exit_info.value.code


def test_settings_from_a_file(dapo_file, tmp_path):
    settings = {"source": dapo_file, "output": str(tmp_path / "out"), "prompt_template": "plain"}
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    main(["--config", str(tmp_path / "settings.yaml"), "--conversational", "false"])
    assert rows_of(tmp_path / "out")[0]["prompt"] == "What is 1 + 1?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "output=None with check=False"),
        (["--output", "o", "--max_prompt_tokens", "5"], "max_prompt_tokens=5 needs tokenizer"),
        (["--output", "o", "--pass_rate_server", "http://x"], "pass_rate_server='http://x' needs pass_rate_model"),
        (["--output", "o", "--min_pass_rate", "0.5"], "a range needs pass_rate_model"),
        (
            ["--output", "o", "--min_pass_rate", "0.9", "--max_pass_rate", "0.1", "--pass_rate_model", "m"],
            "min_pass_rate=0.9, max_pass_rate=0.1",
        ),
        (["--check", "--check_sample", "0"], "check_sample=0 must be at least 1"),
        (["--output", "o", "--prompt_template", "nice"], "prompt_template='nice'"),
    ],
)
def test_settings_that_cannot_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(["--source", "rows.jsonl", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reward_funcs", "nope"], "There is no reward 'nope'"),
        (["--answer_rule", "nope"], "`answer_rule` is 'nope'"),
        (["--thinking_tags", "<think>"], r"`thinking_tags` is \['<think>'\], but it must be two texts, the beginning"),
    ],
)
def test_unknown_rewards_are_refused_before_anything_is_written(arguments, message, dapo_file, tmp_path):
    with pytest.raises(ValueError, match=message):
        main(["--source", dapo_file, "--output", str(tmp_path / "out"), "--check", *arguments])
    assert not (tmp_path / "out").exists()
