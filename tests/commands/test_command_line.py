"""Mistakes in the use of a command: one line and status 2."""

import importlib
import json
import random
import re

import pytest
import yaml

from dapo_trl.__main__ import COMMANDS
from dapo_trl.commands.command_line import errors_in_one_line
from dapo_trl.commands.recipe_parser import RecipeParser, refuse_repeated_keys
from dapo_trl.data.prepare_config import PrepareConfig
from dapo_trl.evaluation.completions import CompletionsFileError
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.hub.publishing import PushError
from dapo_trl.train import DAPOScriptArguments, make_parser


@pytest.fixture(autouse=True)
def without_traceback(monkeypatch):
    monkeypatch.delenv("DAPO_TRL_TRACEBACK", raising=False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("k=0 must be\nat least 1."), "error: k=0 must be at least 1.\n"),
        (FileNotFoundError(2, "No such file", "a.yaml"), "error: [Errno 2] No such file: 'a.yaml'\n"),
        (FileExistsError("out holds data"), "error: out holds data\n"),
        (ModuleNotFoundError("No module named 'vllm'"), "error: No module named 'vllm'\n"),
        (yaml.YAMLError("bad indentation"), "error: bad indentation\n"),
        (PushError("refused"), "error: refused\n"),
        (CompletionsFileError("in use"), "error: in use\n"),
        (ValueError(), "error: ValueError\n"),
    ],
)
def test_one_line_and_status_2(error, line, capsys):
    with pytest.raises(SystemExit) as stopped, errors_in_one_line():
        raise error
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a defect"), errors_in_one_line():
        raise RuntimeError("a defect")


def test_the_traceback_on_request(monkeypatch):
    monkeypatch.setenv("DAPO_TRL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="k=0"), errors_in_one_line():
        raise ValueError("k=0")


# Unknown keys


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check_rows", "1", "--chekc_rows", "3"], "^unknown key `chekc_rows`; did you mean `check_rows`[?]$"),
        (["--check-rwos=3"], "^unknown key `check_rwos`; did you mean `check_rows`[?]$"),
        (["--horse", "3"], "^unknown key `horse`; --help lists the known ones.$"),
        (["--config=recipe.yaml"], "give --config RECIPE.yaml"),
        (["stray"], "^unknown key `stray`; "),
    ],
)
def test_unknown_keys_of_the_command_line(words, message):
    with pytest.raises(ValueError, match=message):
        RecipeParser(DAPOScriptArguments).parse_args_and_config(["--dataset_name", "d", *words])


def test_unknown_keys_of_a_recipe_come_before_missing_ones(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"dataset_nmae": "d", "horse": 1}))
    message = "^unknown key `dataset_nmae`; did you mean `dataset_name`[?] unknown key `horse`; --help lists"
    with pytest.raises(ValueError, match=message):
        RecipeParser(DAPOScriptArguments).parse_args_and_config(["--config", str(path)])


# Abbreviations, and keys and flags that are given twice


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["--dataset_name", "d", "--learning_rat", "1"], "key `learning_rat`; did you mean `learning_rate`?"),
        ("train", ["--dataset_name", "d", "--learning-rat=1"], "key `learning_rat`; did you mean `learning_rate`?"),
        ("train", ["--dataset_name", "d", "--no_save_onl"], "unknown key `no_save_onl`; "),
        ("train", ["--dataset_name", "d", "--no_bf1"], "unknown key `no_bf1`; "),
        ("train", ["--conf", "recipe.yaml"], "unknown key `conf`; did you mean `config`?"),
        ("evaluate", ["--mod", "m", "--data", "d"], "unknown key `mod`; did you mean `model`?"),
        ("prepare-data", ["--sourc", "d", "--output", "o"], "unknown key `sourc`; did you mean `source`?"),
        ("report", ["run", "--out", "o"], "unknown key `out`; did you mean `output_dir`?"),
        ("estimate", ["--config", "r", "--gpu", "8"], "unknown key `gpu`; did you mean `gpus`?"),
        (
            "estimate",
            ["--config", "r", "--learning_rat", "8"],
            "unknown key `learning_rat`; did you mean `learning_ra",
        ),
        ("model-card", ["--run", "r", "--pus"], "unknown key `pus`; did you mean `push`?"),
        ("merge-adapter", ["--adapter", "a", "--output", "o", "--dt", "auto"], "did you mean `dtype`?"),
    ],
)
def test_no_command_takes_an_abbreviation(command, words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        importlib.import_module(f"dapo_trl.{COMMANDS[command][0]}").main(words)


@pytest.mark.parametrize("number", range(20))
def test_no_field_can_be_abbreviated(number):
    source = random.Random(number)
    for parser in (make_parser(), RecipeParser(EvaluateConfig), RecipeParser(PrepareConfig)):
        flag = source.choice([flag for flag in parser.flags if len(flag) > 4])
        short = flag[: source.randrange(2, len(flag))]
        if short not in parser.flags:
            with pytest.raises(ValueError, match=f"unknown key `{short}`; did you mean `{short}"):
                parser.parse_known_args([f"--{short}", "1", "--config", "r", "--dataset_name", "d", "--source", "s"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: a\nsource: b\n", "the key `source` is given twice, in lines 1 and 2, and only the last one would"),
        ("source: a\n'source' : a\n", "the key `source` is given twice"),
        ("{source: a, source: b}", "the key `source` is given twice, in lines 1 and 1"),
        ("env:\n  A: 1\n  B: 2\n  A: 3\n", "the key `env.A` is given twice, in lines 2 and 4"),
        ("reward_funcs:\n- {a: {b: 1, b: 2}}\n", "the key `reward_funcs.a.b` is given twice"),
        ("prompt-template: boxed\n", "unknown key `prompt-template`; did you mean `prompt_template`?"),
    ],
)
@pytest.mark.parametrize("config", [PrepareConfig, EvaluateConfig, DAPOScriptArguments])
def test_keys_of_a_file_that_are_given_twice(tmp_path, text, message, config):
    # Every command's own field in place of `source`.
    field = {PrepareConfig: "source", EvaluateConfig: "data", DAPOScriptArguments: "dataset_name"}[config]
    (tmp_path / "recipe.yaml").write_text(text.replace("source", field))
    with pytest.raises(ValueError, match=re.escape(message.replace("source", field))):
        RecipeParser(config).parse(["--config", str(tmp_path / "recipe.yaml")])


def test_a_file_without_repetitions_is_taken(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "base: &base {a: 1}\nother: {<<: *base, <<: {c: 1}, b: {a: 1}}\nx: '{problem}: {problem}'\ny: '{'\n"
    )
    refuse_repeated_keys(path.read_text(), str(path))
    refuse_repeated_keys("", "nothing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "a.yaml", "--config", "b.yaml"], "--config is given more than once"),
        (["--config"], "--config is the last word. Give the file after it"),
    ],
)
def test_one_file(words, message):
    with pytest.raises(ValueError, match=message):
        RecipeParser(PrepareConfig).parse(words)
