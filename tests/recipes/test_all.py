"""Every recipe is read strictly and builds its DAPOConfig, for the number of processes it is written for."""

import re

import pytest
import yaml
from trl import TrlParser

from dapo_trl.estimation.estimate import read_recipe
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.generation.vllm.command import address
from dapo_trl.train import load_rewards

from .headers import commands
from .table import NUMBERS, RECIPES, ROOT, Numbers, read


def test_all_are_tested():
    found = {str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*.yaml") if path.parent.name[0].isupper()}
    assert found == NUMBERS.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_a_rollout(name):
    args = read(name).training_args
    read_numbers = Numbers(
        NUMBERS[name].num_processes,
        args.prompts_per_rollout,
        args.num_generations,
        args.updates_per_rollout,
        args.max_completion_length,
        args.soft_punish_cache,
    )
    assert read_numbers == NUMBERS[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_whole_rollouts(name):
    """Training ends, and checkpoints are written, at the end of a rollout."""
    args = read(name).training_args
    assert args.max_steps % args.updates_per_rollout == 0
    assert args.save_steps % args.updates_per_rollout == 0


@pytest.mark.parametrize("name", NUMBERS)
def test_rewards_are_found(name, monkeypatch):
    monkeypatch.chdir(ROOT)  # a recipe may name rewards of the demo
    (reward,) = load_rewards(read(name).script_args)
    assert callable(reward)


@pytest.mark.parametrize("name", NUMBERS)
def test_adapters_have_no_dropout(name):
    """With dropout, the policy that is trained would not be the one that generated."""
    _, args, model_args = read(name)
    assert not model_args.use_peft or model_args.lora_dropout == 0.0
    assert model_args.dtype == "bfloat16" or not args.bf16 or not model_args.use_peft


@pytest.mark.parametrize("name", NUMBERS)
def test_keys_are_flat_and_in_commented_blocks(name):
    text = (RECIPES / name).read_text()
    assert not any(isinstance(value, dict) for value in yaml.safe_load(text).values())
    for block in text.split("\n\n"):
        assert block.startswith("# "), block


@pytest.mark.parametrize("name", NUMBERS)
def test_output_directories_are_their_own(name):
    others = [yaml.safe_load((RECIPES / other).read_text())["output_dir"] for other in NUMBERS if other != name]
    assert yaml.safe_load((RECIPES / name).read_text())["output_dir"] not in others


@pytest.mark.parametrize("name", NUMBERS)
def test_launch_lines(name):
    """Each reads this recipe, and the trainer can be built from it and the options beside it."""
    lines = commands(name, "dapo_trl.train")
    assert lines
    for words in [*lines, *commands(name, "dapo-trl vllm-command")]:
        assert words[:2] == ["--config", f"recipes/{name}"]
        options = ["--config", str(RECIPES / name), *words[2:]]
        args = read_recipe(options, NUMBERS[name].num_processes).training_args
    assert bool(commands(name, "dapo-trl vllm-command")) == (args.use_vllm and args.vllm_mode == "server")


@pytest.mark.parametrize("name", [name for name in NUMBERS if "vllm_mode: server" in (RECIPES / name).read_text()])
def test_the_server_listens_where_the_trainer_looks_for_it(name):
    (printing,), (training,) = commands(name, "dapo-trl vllm-command"), commands(name, "dapo_trl.train")
    asked, expected = (
        address(read_recipe(["--config", str(RECIPES / name), *words[2:]], NUMBERS[name].num_processes).training_args)
        for words in (printing, training)
    )
    assert asked == expected


@pytest.mark.parametrize("name", [name for name in NUMBERS if name.startswith("Qwen")])
def test_evaluation_lines(name):
    (words,) = commands(name, "dapo-trl evaluate")
    (config,) = TrlParser(EvaluateConfig).parse_args_and_config(words)
    args = read(name).training_args
    assert (config.model, config.max_completion_length) == (args.output_dir, args.max_completion_length)
    assert (config.chat_template_kwargs or {}) == (args.chat_template_kwargs or {})


def test_readme_has_a_row_for_each():
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\)", (RECIPES / "README.md").read_text(), flags=re.MULTILINE)
    assert [name for name, link in rows] == [link for name, link in rows]
    assert sorted(name for name, _ in rows) == sorted(NUMBERS)
