"""Links lead somewhere, functions and fields exist, commands can be typed as they stand."""

import contextlib
import pkgutil
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from dapo_trl.__main__ import main
from dapo_trl.commands import estimate
from dapo_trl.rewards import load_reward
from dapo_trl.train import make_parser
from tests.docs.pages import PAGES, ROOT, anchors, code_blocks, command_lines, inline_code, links, name


COMMANDS = {page: command_lines(page) for page in PAGES}
FIELDS = {action.dest for action in make_parser()._actions}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page):
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page):
    for code in inline_code(page):
        if re.fullmatch(r"(dapo_trl|tests|recipes|benchmarks|demo|docs)/[\w./-]*", code):
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_functions_that_are_named_exist(page):
    for code in inline_code(page):
        if re.fullmatch(r"dapo_trl(\.\w+)+", code):
            assert pkgutil.resolve_name(code) is not None


def test_every_room_is_in_the_architecture():
    named = {code.removeprefix("dapo_trl/").rstrip("/") for code in inline_code(ROOT / "docs" / "architecture.md")}
    modules = {path.name for path in (ROOT / "dapo_trl").glob("[a-z]*.py")}
    folders = {path.parent.name for path in (ROOT / "dapo_trl").glob("[a-z]*/__init__.py")}
    assert folders >= {"batching", "hub"}
    assert (modules | folders) - named == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *ROOT.glob("docs/*.md")], ids=name)
def test_settings_that_are_named_exist(page):
    own = {"token_normalization", "answer_rule", "warmup_rollouts"}
    assert own <= FIELDS
    for code in inline_code(page):
        setting = re.fullmatch(r"([a-z_0-9]+): .+", code)
        assert setting is None or setting[1] in FIELDS | {"distributed_type"}, code


def test_reference_of_the_configuration_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert page == (ROOT / "docs" / "configuration.md").read_text(), "run: python docs/generate.py"


# Commands


def test_commands_are_found():
    assert sum(map(len, COMMANDS.values())) > 40


def make_targets() -> list[str]:
    words = [line[1] for lines in COMMANDS.values() for line in lines if line[0] == "make"]
    return sorted(set(words))


@pytest.mark.parametrize("target", make_targets())
def test_targets_of_make_exist(target):
    listed = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr


def own_commands() -> list[list[str]]:
    """Subcommand of `dapo-trl` and arguments, of each line that runs one."""
    found = []
    for lines in COMMANDS.values():
        for words in lines:
            if words[0] == "dapo-trl":
                found.append(words[1:])
            elif "dapo_trl.train" in words:
                found.append(["train", *words[words.index("dapo_trl.train") + 1 :]])
    return found


WITH_MORE_HELP = ("train", "vllm-command", "evaluate", "prepare-data")


@pytest.mark.parametrize("words", own_commands(), ids=" ".join)
def test_options_of_our_commands_exist(words, capsys, monkeypatch):
    command, arguments = words[0], words[1:]
    monkeypatch.setenv("COLUMNS", "1000")
    with contextlib.suppress(SystemExit):
        main([command, "--help", *(["all"] if command in WITH_MORE_HELP else [])])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out)) | {"--config"}
    assert "--help" in known
    for argument in arguments:
        option = argument.partition("=")[0]
        assert not option.startswith("--") or option in known, option


@pytest.mark.parametrize("words", own_commands(), ids=" ".join)
def test_recipes_of_our_commands_exist(words):
    paths = [word for word in words if word.startswith("recipes/")]
    assert all(Path(ROOT, path).exists() for path in paths), paths


def commands_with_a_recipe(command: str) -> list[list[str]]:
    """Arguments of each line that runs the command with one of our recipes."""
    lines = [words[1:] for words in own_commands() if words[0] == command]
    return [arguments for arguments in lines if any(word.startswith("recipes/") for word in arguments)]


@pytest.mark.parametrize("arguments", commands_with_a_recipe("train"), ids=" ".join)
def test_training_commands_are_read(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    script_args, training_args, model_args = make_parser().parse_args_and_config([*arguments, "--use_cpu", "true"])
    assert script_args.dataset_name and training_args.output_dir and model_args.model_name_or_path


def test_the_example_of_own_data_and_rewards(tmp_path, monkeypatch):
    page = ROOT / "docs" / "settings.md"
    (reward,), (recipe,) = code_blocks(page, "python"), code_blocks(page, "yaml")
    (tmp_path / "my_rewards.py").write_text(reward)
    (tmp_path / "recipe.yaml").write_text(recipe + "model_name_or_path: any\nuse_cpu: true\nbf16: false\n")
    monkeypatch.syspath_prepend(tmp_path)
    script_args, training_args, _ = make_parser().parse_args_and_config(["--config", str(tmp_path / "recipe.yaml")])
    assert training_args.eval_strategy == "steps"
    assert training_args.dynamic_sampling_metric in script_args.reward_funcs
    assert len(training_args.reward_weights) == len(script_args.reward_funcs)
    function = load_reward(script_args.reward_funcs[1])
    assert (function.__name__, function(completion_ids=[[0] * 499, [0] * 500])) == ("short", [1.0, 0.0])


@pytest.mark.parametrize("arguments", commands_with_a_recipe("estimate"), ids=" ".join)
def test_estimates_are_printed(arguments, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    estimate.main(arguments)
    printed = capsys.readouterr().out
    assert " fits: " in printed and "does not fit" not in printed
