"""Every known layout of a data set comes out as `prompt` and `solution`."""

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dapo_trl.data import RowError, load_prompts
from dapo_trl.data.records import Counts, RecordReader


DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
BOXED_BEFORE = DAPO_BEFORE.replace("$Answer (without quotes)", "\\boxed{$Answer}")
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'


def user(text):
    return [{"role": "user", "content": text}]


ORIGINAL = {
    "data_source": "math_dapo",
    "prompt": user(DAPO_BEFORE + "What is $1+1$?" + DAPO_AFTER),
    "ability": "MATH",
    "reward_model": {"ground_truth": "2", "style": "rule-lighteval/MATH_v2"},
    "extra_info": {"index": "a"},
}
PROCESSED = {"prompt": "What is $1+1$?", "solution": "2", "source_prompt": ORIGINAL["prompt"], "ability": "MATH"}
LABEL = {"prompt": user(BOXED_BEFORE + "What is $1+1$?" + DAPO_AFTER), "label": "2"}


@pytest.mark.parametrize(
    ("row", "prompt", "solution"),
    [
        (ORIGINAL, ORIGINAL["prompt"], "2"),
        (PROCESSED, DAPO_BEFORE + "What is $1+1$?" + DAPO_AFTER, "2"),
        (LABEL, LABEL["prompt"], "2"),
        ({"question": "Q?", "answer": "6*7=<<6*7=42>>42\n#### 42"}, DAPO_BEFORE + "Q?" + DAPO_AFTER, "42"),
        ({"problem": "Q?", "answer": "\\frac{1}{2}"}, DAPO_BEFORE + "Q?" + DAPO_AFTER, "\\frac{1}{2}"),
        (
            {"problem": "Q?", "level": "Level 1", "solution": "First \\boxed{3}, so $\\boxed{\\frac{1}{2}}$."},
            DAPO_BEFORE + "Q?" + DAPO_AFTER,
            "\\frac{1}{2}",
        ),
        ({"problem": "Q?", "answer": 7}, DAPO_BEFORE + "Q?" + DAPO_AFTER, "7"),
        ({"prompt": "12+7=", "solution": "19"}, "12+7=", "19"),
        ({"prompt": "Ask.", "solution": "1", "problem": "Q?", "source": "s", "id": "x"}, "Ask.", "1"),
    ],
    ids=["dapo", "processed", "label", "gsm8k", "math", "math-worked", "number", "plain", "prepared"],
)
def test_known_layouts(write_jsonl, row, prompt, solution):
    (loaded,) = load_prompts(write_jsonl("rows.jsonl", row))
    assert loaded["prompt"] == prompt
    assert loaded["solution"] == solution
    assert {name: loaded[name] for name in row if name not in ("prompt", "solution")} == {
        name: value for name, value in row.items() if name not in ("prompt", "solution")
    }


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_json_array_and_parquet(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps([ORIGINAL, ORIGINAL]), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist([ORIGINAL, ORIGINAL]), path)
    loaded = load_prompts(str(path))
    assert loaded["solution"][:] == ["2", "2"]
    assert loaded[1]["prompt"] == ORIGINAL["prompt"]


@pytest.mark.parametrize(
    ("row", "template", "expected"),
    [
        (ORIGINAL, "plain", user("What is $1+1$?")),
        (LABEL, "dapo", ORIGINAL["prompt"]),
        (
            {"prompt": [{"role": "system", "content": "Be brief."}, *user("Q?")], "answer": "1"},
            "<{problem}>",
            [{"role": "system", "content": "Be brief."}, *user("<Q?>")],
        ),
        ({"prompt": "Long words: Q?", "solution": "1", "problem": "Q?"}, "plain", "Q?"),
        ({"problem": "Q {problem}?", "answer": "1"}, "{x} {problem}", "{x} Q {problem}?"),
        (
            {"question": "Q?", "answer": "1"},
            "boxed",
            "Q?\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
        ),
    ],
)
def test_template_replaces_a_known_one(write_jsonl, row, template, expected):
    (loaded,) = load_prompts(write_jsonl("rows.jsonl", row), prompt_template=template)
    assert loaded["prompt"] == expected


def test_conversational_on_request(write_jsonl):
    bare = write_jsonl("bare.jsonl", {"problem": "Q?", "answer": "1"})
    assert load_prompts(bare, prompt_template="plain", conversational=True)[0]["prompt"] == user("Q?")
    messages = write_jsonl("messages.jsonl", ORIGINAL)
    assert load_prompts(messages, prompt_template="plain", conversational=False)[0]["prompt"] == "What is $1+1$?"


def test_system_message_is_no_text(write_jsonl):
    row = {"prompt": [{"role": "system", "content": "Be brief."}, *user("Q?")], "answer": "1"}
    with pytest.raises(RowError, match=r"row 0 .*column 'prompt'.*system, user.*conversational=False"):
        load_prompts(write_jsonl("rows.jsonl", row), conversational=False)


def test_columns_by_name(write_jsonl):
    row = {"text": "Q?", "meta": {"gold": "\\boxed{5}"}, "answer": "wrong one"}
    path = write_jsonl("rows.jsonl", row)
    (loaded,) = load_prompts(path, prompt_column="text", solution_column="meta.gold", prompt_template="plain")
    assert (loaded["prompt"], loaded["solution"]) == ("Q?", "5")
    (loaded,) = load_prompts(path, prompt_column="text", prompt_template="plain")
    assert loaded["solution"] == "wrong one"


def test_unknown_column_lists_those_there_are(write_jsonl):
    path = write_jsonl("rows.jsonl", {"text": "Q?", "meta": {"gold": "5", "by": "me"}})
    with pytest.raises(ValueError, match=r"solution_column='meta.golden'.*rows.jsonl.*text, meta.\{gold, by\}"):
        load_prompts(path, prompt_column="text", solution_column="meta.golden")
    with pytest.raises(ValueError, match=r"prompt and the solution .*text, meta.*prompt_column and solution_column"):
        load_prompts(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "Q?", "answer": None}, r"rows.jsonl', row 1 .*column 'answer': no reference answer in None"),
        ({"problem": "Q?", "answer": "  "}, r"row 1 .*column 'answer': no reference answer in '  '"),
        ({"problem": " ", "answer": "1"}, r"row 1 .*column 'problem': the prompt is empty.*problem, answer"),
        ({"problem": None, "answer": "1"}, r"row 1 .*column 'problem': a prompt must be a text or .*NoneType"),
    ],
)
def test_bad_row_is_named(write_jsonl, row, message):
    path = write_jsonl("rows.jsonl", {"problem": "Q?", "answer": "1"}, row)
    with pytest.raises(RowError, match=message):
        load_prompts(path)


def test_worked_solution_without_final_answer(write_jsonl):
    path = write_jsonl("rows.jsonl", {"problem": "Q?", "solution": "Obvious."})
    with pytest.raises(RowError, match=r"column 'solution': no reference answer after `####` or in .*'Obvious.'"):
        load_prompts(path)
    assert load_prompts(path, solution_column="solution")[0]["solution"] == "Obvious."


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "/missing/rows.parquet"])
def test_missing_file_says_both_readings(source):
    with pytest.raises(FileNotFoundError, match=r"local path, and there is no such file .* data set on the Hub"):
        load_prompts(source)


def test_unreachable_hub_id_says_both_readings(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setattr("dapo_trl.data.load.load_dataset", refuse)
    with pytest.raises(FileNotFoundError, match=r"'owner/name' is neither a local file .* on the Hub \(offline\)"):
        load_prompts("owner/name")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", '{"problem": "Q?", "answer": "1"}\n{"problem":\n', "cannot be read: line 2 is not JSON"),
        ("rows.parquet", "no parquet at all", "cannot be read: Parquet magic bytes not found"),
        ("rows.jsonl", "", "no rows|split 'train': .*no data"),
        ("rows.json", "[]", "no rows|split 'train': .*no data"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"/{name}'.*({message})"):
        list(load_prompts(str(tmp_path / name)))


def test_other_files_and_templates_are_refused(tmp_path, write_jsonl):
    (tmp_path / "rows.csv").write_text("problem,answer\nQ?,1\n")
    with pytest.raises(ValueError, match=r"rows.csv': files must end in .json, .jsonl, .parquet"):
        load_prompts(str(tmp_path / "rows.csv"))
    path = write_jsonl("rows.jsonl", {"problem": "Q?", "answer": "1"})
    with pytest.raises(ValueError, match=r"^prompt_template='nice' is neither .*dapo, boxed, plain.*\{problem\}"):
        load_prompts(path, prompt_template="nice")


def test_splits_can_be_sliced(write_jsonl):
    path = write_jsonl("rows.jsonl", *({"problem": f"Q{n}?", "answer": n} for n in range(5)))
    assert load_prompts(path, split="test[1:3]")["solution"][:] == ["1", "2"]


NUMBERS = [
    "5",
    "9007199254740993",  # 2^53 + 1
    "-123456789012345678901234567890",
    "0.1234567890123456789012345",
    "1.50",
    "-0.0",
    "1e400",
]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_golds_keep_all_their_digits(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    for name, start, end in (("answer", "", ""), ("reward_model", '{"ground_truth": ', "}")):
        rows = [f'{{"prompt": "What?", "{name}": {start}{number}{end}, "level": 3}}' for number in NUMBERS]
        path.write_text("\n".join(rows) if suffix == "jsonl" else f"[{', '.join(rows)}]", encoding="utf-8")
        loaded = load_prompts(str(path))
        assert [row["solution"] for row in loaded] == NUMBERS
        assert [row["level"] for row in loaded] == [3] * len(NUMBERS)
        records = RecordReader(str(path), Counts())
        assert [record.solution for record in records] == NUMBERS
    path.write_text('{"prompt": "What?", "answer": [1e400]}', encoding="utf-8")
    assert load_prompts(str(path))[0]["solution"] == "1e400"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Writes a file that `load_dataset` finds as the data set `owner/name` on the Hub."""

    def write(kind: str, text: str) -> str:
        path = tmp_path / f"rows.{kind}"
        path.write_text(text, encoding="utf-8")

        def load(name, *config, data_files=None, **options):
            if name == "owner/name":
                name, data_files = kind, {"train": str(path)}
            return load_dataset(name, data_files=data_files, **options)

        monkeypatch.setattr("dapo_trl.data.load.load_dataset", load)
        monkeypatch.setattr("dapo_trl.data.load.find_files", lambda *args: [str(path)] if kind == "json" else None)
        return "owner/name"

    return write


@pytest.mark.parametrize("column", ["answer", "my_gold"])
def test_golds_in_csv_on_the_hub_are_as_written(hub, column):
    golds = ["007", "1.50", "1e3", "9007199254740993", "-123456789012345678901234567890", "34"]
    source = hub("csv", f"problem,{column},level\n" + "".join(f"Q?,{gold},3\n" for gold in golds))
    options = {} if column == "answer" else {"solution_column": column}
    rows = list(load_prompts(source, **options))
    assert [(row["solution"], row["level"]) for row in rows] == [(gold, 3) for gold in golds]
    assert [record.solution for record in RecordReader(source, Counts(), **options)] == golds


def test_golds_in_json_on_the_hub_are_as_written(hub):
    golds = NUMBERS[:-1]  # pyarrow reads no number beyond those of a float
    rows = [f'{{"problem": "Q?", "answer": {gold}}}' for gold in golds]
    assert load_prompts(hub("json", "\n".join(rows)))["solution"][:] == golds


def test_golds_in_texts_beside_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"problem": "A?", "answer": "007"}\n{"problem": "B?", "answer": 7}\n', encoding="utf-8")
    assert load_prompts(str(path))["solution"][:] == ["007", "7"]
    path.write_text('{"problem": "A?", "answer": "008"}\n{"problem": "B?", "answer": 1.0}\n', encoding="utf-8")
    assert load_prompts(str(path))["solution"][:] == ["008", "1.0"]  # not those of the file before


def test_other_columns_of_json(write_jsonl):
    rows = [{"problem": "A?", "answer": "1", "level": 3}, {"problem": "B?", "answer": "2", "level": "hard", "by": 0.5}]
    loaded = load_prompts(write_jsonl("rows.jsonl", *rows))
    assert (loaded["level"][:], loaded["by"][:]) == ([3, "hard"], [None, 0.5])
    path = write_jsonl("rows.jsonl", {"problem": "A?", "answer": "1", "level": 2**70})
    with pytest.raises(ValueError, match=r"rows.jsonl' holds an integer of more than 64 bits. Write it as a text"):
        load_prompts(path)


def test_slices_of_files_with_long_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"problem": "Q?", "answer": {2**60 + i}.5}}\n' for i in range(4)), encoding="utf-8")
    assert load_prompts(str(path), split="train[1:3]")["solution"][:] == [f"{2**60 + i}.5" for i in (1, 2)]


def test_golds_in_parquet(tmp_path):
    golds = {
        "integers": (pa.int64(), 2**53 + 1, "9007199254740993"),
        "unsigned": (pa.uint64(), 2**64 - 1, "18446744073709551615"),
        "decimals": (pa.decimal128(38, 2), Decimal("12345678901234567890.50"), "12345678901234567890.50"),
        "floats": (pa.float64(), 0.1, "0.1"),
        "short floats": (pa.float32(), 0.1, "0.1"),
        "texts": (pa.string(), "007", "007"),
    }
    for name, (kind, value, expected) in golds.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"problem": ["Q?"], "answer": pa.array([value], kind)}), path)
        assert load_prompts(str(path))["solution"][:] == [expected]
        assert [record.solution for record in RecordReader(str(path), Counts())] == [expected]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            1e20,
            r"row 0 .*column 'answer': the reference answer 1e\+20 is a number that was rounded to 53 bits",
        ),
        (float("inf"), "the reference answer inf is a number that was rounded"),
        (float("nan"), "no reference answer in nan"),
    ],
)
def test_floats_that_have_lost_digits_are_refused(tmp_path, value, message):
    pq.write_table(pa.table({"problem": ["Q?"], "answer": [value]}), tmp_path / "rows.parquet")
    with pytest.raises(RowError, match=message):
        load_prompts(str(tmp_path / "rows.parquet"))
