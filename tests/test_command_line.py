"""Mistakes in the use of a command: one line and status 2."""

import json
import os
import runpy
import subprocess
import sys

import pytest
import yaml

from dapo_trl.command_line import errors_in_one_line
from dapo_trl.evaluation.completions_file import CompletionsFileError
from dapo_trl.hub.publisher import PushError
from dapo_trl.recipe_parser import RecipeParser
from dapo_trl.train import DAPOScriptArguments


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
    with pytest.raises(SystemExit) as stopped, errors_in_one_line(PushError, CompletionsFileError):
        raise error
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a defect"), errors_in_one_line(PushError):
        raise RuntimeError("a defect")


def test_the_traceback_on_request(monkeypatch):
    monkeypatch.setenv("DAPO_TRL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="k=0"), errors_in_one_line():
        raise ValueError("k=0")


def test_as_a_command(tmp_path):
    command = [sys.executable, "-m", "dapo_trl.report", str(tmp_path / "absent")]
    environment = {name: value for name, value in os.environ.items() if name != "DAPO_TRL_TRACEBACK"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    last_line = finished.stderr.splitlines()[-1]  # libraries may print before
    assert last_line.startswith(f"error: {tmp_path / 'absent'} is not a directory")


def run_as_command(module: str, words: list[str], monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", [module, *words])
    # Afresh, as `python -m` does it; the tests' own copy of the module comes back afterwards.
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__")
    return stopped.value.code


@pytest.mark.parametrize(
    ("module", "words", "part"),
    [
        ("train", ["--config", "absent.yaml"], "absent.yaml"),
        (
            "train",
            ["--dataset_name", "d", "--epsilon_hihg", "0.3", "--use_cpu", "true"],
            "did you mean `epsilon_high`?",
        ),
        ("evaluate", ["--config", "absent.yaml"], "absent.yaml"),
        ("estimate", ["--config", "absent.yaml"], "absent.yaml"),
        ("model_card", ["--run", "absent"], "absent"),
        ("merge_adapter", ["--adapter", "./absent", "--output", "out"], "./absent"),
        ("prepare_data", ["--source", "absent.jsonl", "--output", "out"], "absent.jsonl"),
    ],
)
def test_every_command(module, words, part, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_as_command(f"dapo_trl.{module}", words, monkeypatch) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and part in last


# Unknown keys


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check_row", "1", "--chekc_rows", "3"], "^unknown key `chekc_rows`; did you mean `check_rows`[?]$"),
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
