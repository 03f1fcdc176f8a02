"""The command `dapo-trl`, or `python -m dapo_trl`: what it runs, its help, and how it ends after a mistake."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from dapo_trl import __version__
from dapo_trl.__main__ import COMMANDS, main
from dapo_trl.commands.recipe import EPILOG, make_parser
from dapo_trl.commands.recipe_parser import FIRST


def ending(words: list[str], capsys) -> tuple[int | str | None, str, str]:
    """Exit status and what is printed on stdout and stderr."""
    status: int | str | None = 0
    try:
        main(words)
    except SystemExit as stopped:
        status = stopped.code
    return status, *capsys.readouterr()


def test_the_usage_lists_every_command(capsys):
    status, printed, _ = ending([], capsys)
    assert status == 0
    assert re.findall(r"^  ([\w-]+)  ", printed, flags=re.MULTILINE) == list(COMMANDS)
    assert ending(["--help"], capsys) == (0, printed, "")


def test_the_version(capsys):
    assert ending(["--version"], capsys) == (0, f"dapo_trl {__version__}\n", "")


def test_an_unknown_command(capsys):
    status, _, error = ending(["trian"], capsys)
    assert (status, error) == (2, f"error: `trian` is no command. Give one of: {', '.join(COMMANDS)}.\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_one_needs_first(name, capsys):
    status, printed, _ = ending([name, "--help"], capsys)
    assert not status
    assert printed.startswith(f"usage: dapo-trl {name} ")
    assert len(printed.splitlines()) < 45
    for field in FIRST.get(name, ()):
        assert f"\n--{field} " in printed


def test_help_all_names_every_field(capsys):
    status, printed, _ = ending(["vllm-command", "--help", "all"], capsys)
    assert not status
    assert all(f"--{flag}" in printed for flag in make_parser().flags)


def test_fields_that_the_short_help_only_names_exist():
    named = [word.strip(",") for word in EPILOG.split() if "_" in word]
    assert "output_dir" in named
    assert {*named} <= {*make_parser().flags}


@pytest.mark.parametrize("name", ["train", "vllm-command", "estimate", "report", "model-card", "merge-adapter"])
def test_the_short_help_waits_for_no_library(name):
    code = f"""
import sys
from dapo_trl.__main__ import main
try:
    main(["{name}", "--help"])
finally:
    assert "torch" not in sys.modules, "torch"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "dapo_trl", "report", str(tmp_path / "absent")]
    environment = {name: value for name, value in os.environ.items() if name != "DAPO_TRL_TRACEBACK"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    last_line = finished.stderr.splitlines()[-1]  # libraries may print before
    assert last_line.startswith(f"error: {tmp_path / 'absent'} has no metrics.jsonl")


@pytest.mark.parametrize(
    ("name", "words", "part"),
    [
        ("train", ["--config", "absent.yaml"], "absent.yaml"),
        ("train", ["--dataset_name", "d", "--epsilon_hihg", "0.3"], "did you mean `epsilon_high`?"),
        ("train", ["--dataset_name", "d", "--max_steps", "x"], "argument --max_steps/--max-steps: invalid int value"),
        ("train", ["--help", "al"], "argument -h/--help: invalid choice: 'al'"),
        ("train", [], "the following arguments are required: --dataset_name"),
        ("vllm-command", ["--dataset_name", "d"], "model_name_or_path is not set"),
        ("evaluate", ["--config", "absent.yaml"], "absent.yaml"),
        ("evaluate", ["--k", "many"], "argument --k: invalid int value: 'many'. See dapo-trl evaluate --help."),
        ("compare", ["one.json"], "the following arguments are required: SUMMARY.json"),
        ("estimate", ["--config", "absent.yaml"], "absent.yaml"),
        ("estimate", ["--gpus", "8"], "the following arguments are required: --config"),
        ("model-card", ["--run", "absent"], "absent"),
        ("merge-adapter", ["--adapter", "./absent", "--output", "out"], "./absent"),
        ("merge-adapter", ["--adapter", "a"], "the following arguments are required: --output"),
        ("prepare-data", ["--source", "absent.jsonl", "--output", "out"], "absent.jsonl"),
    ],
)
def test_a_mistake_ends_in_one_line(name, words, part, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("DAPO_TRL_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)
    status, printed, error = ending([name, *words], capsys)
    last = error.splitlines()[-1]
    assert status == 2
    assert last.startswith("error: ") and part in last
    assert "usage:" not in printed + error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module(name):
    assert callable(importlib.import_module(f"dapo_trl.{COMMANDS[name][0]}").main)
