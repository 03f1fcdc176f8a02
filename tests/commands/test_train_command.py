"""`dapo_trl.train` from a recipe to a saved model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

from dapo_trl import train as train_module
from dapo_trl.commands.command_line import errors_in_one_line
from dapo_trl.data import check_dataset
from dapo_trl.train import DAPOScriptArguments, checkpoint_to_resume, load_rewards, main, make_parser

from ..command import RECIPE, save_base, write_recipe
from ..helpers import char_tokenizer, weights


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> dict[str, str]:
    """Where the model and the data are."""
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(base, tmp_path):
    """Writes a recipe and returns the arguments that run it."""

    def write(**fields) -> list[str]:
        fields = base | {"output_dir": str(tmp_path / "out")} | fields
        return ["--config", write_recipe(tmp_path / "recipe.yaml", fields)]

    return write


@pytest.fixture
def trainers(monkeypatch) -> list:
    """The trainers that the command builds."""
    built = []

    def build_trainer(*args):
        built.append(build(*args))
        return built[-1]

    build = train_module.build_trainer
    monkeypatch.setattr(train_module, "build_trainer", build_trainer)
    return built


def final_state(output_dir: Path, step: int) -> TrainerState:
    return TrainerState.load_from_json(str(output_dir / f"checkpoint-{step}" / "trainer_state.json"))


# From end to end


def test_the_saved_tokenizer_comes_back_as_it_was(base):
    text = "Answer: 12+3 = 15\n<eos>"
    loaded = AutoTokenizer.from_pretrained(base["model_name_or_path"])
    assert loaded(text)["input_ids"] == char_tokenizer()(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text


def test_recipe_to_saved_model(recipe, base, tmp_path):
    main(recipe())
    output_dir = tmp_path / "out"
    assert sorted(path.name for path in output_dir.glob("checkpoint-*")) == [f"checkpoint-{k}" for k in (1, 2, 3)]
    history = final_state(output_dir, 3).log_history
    assert [record["step"] for record in history] == [1, 2, 3]
    assert history[0]["rewards/starts_low/mean"] == history[0]["reward"]
    assert history[0]["dynamic_sampling/rounds"] >= 1

    trained = AutoModelForCausalLM.from_pretrained(output_dir)
    before = AutoModelForCausalLM.from_pretrained(base["model_name_or_path"])
    assert (weights(trained) - weights(before)).abs().max() > 1e-3
    assert AutoTokenizer.from_pretrained(output_dir)("12")["input_ids"] == char_tokenizer()("12")["input_ids"]


def test_the_command_line_beats_the_recipe(recipe, trainers):
    main([*recipe(learning_rate=1e-3, max_steps=3), "--learning_rate", "5e-4", "--max_steps", "1"])
    (trainer,) = trainers
    assert (trainer.args.learning_rate, trainer.args.max_steps, trainer.state.global_step) == (5e-4, 1, 1)
    assert trainer.args.num_generations == 4  # of the recipe


def test_everything_on_the_command_line(recipe, base, tmp_path, trainers):
    fields = RECIPE | base | {"output_dir": str(tmp_path / "out"), "reward_funcs": "tests.command.starts_low"}
    main([word for name, value in (fields | {"max_steps": 1}).items() for word in (f"--{name}", str(value))])
    assert trainers[0].state.global_step == 1


def test_prompts_and_rewards_come_from_the_data(recipe, trainers, tmp_path):
    fields = {"reward_funcs": ["accuracy"], "prompt_template": "boxed", "max_steps": 1, "max_rounds": 1}
    with pytest.raises(SystemExit):
        main(recipe(**fields, log_completions=True))
    (trainer,) = trainers
    # A random model gets nothing right: the run ends before its first step, having asked the right questions.
    assert trainer.state.global_step == 0
    assert trainer.reward_func_names == ["accuracy"]
    row = trainer.train_dataset[7]
    assert row["solution"] == "3"
    assert "1+2=" in row["prompt"] and "boxed" in row["prompt"]


def test_lora_by_model_config(recipe, tmp_path, trainers):
    main(recipe(use_peft=True, lora_r=4, lora_target_modules=["q_proj", "v_proj"], max_steps=1))
    adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 2 * 2  # A and B of two projections in two layers
    assert all(min(matrix.shape) == 4 for matrix in adapter.values())
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 4
    trained = [name for name, parameter in trainers[0].model.named_parameters() if parameter.requires_grad]
    assert all("lora" in name for name in trained)


def test_evaluation_data(recipe, base, trainers):
    evaluation = {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset_name": base["dataset_name"]}
    main(recipe(**evaluation, dataset_test_split="train", max_steps=1))
    (trainer,) = trainers
    assert len(trainer.eval_dataset) == 20
    assert any("eval_reward" in record for record in trainer.state.log_history)


# Rewards


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tests.command.starts_low"], ["starts_low"]),
        (["accuracy", "tests.command.starts_low"], ["accuracy", "starts_low"]),
    ],
)
def test_rewards_by_name_and_dotted_path(recipe, trainers, names, expected):
    main(recipe(reward_funcs=names, dynamic_sampling_metric="starts_low", max_steps=1))
    assert trainers[0].reward_func_names == expected


def test_answer_rule_is_an_option_of_accuracy():
    (reward,) = load_rewards(DAPOScriptArguments(dataset_name="x", reward_funcs=["accuracy"], answer_rule="boxed"))
    by_boxed = reward(completions=["Answer: 3", r"\boxed{3}"], solution=["3", "3"])
    assert by_boxed == [-1.0, 1.0]


TAGGED = ["[THINK]Answer: 3[/THINK] Answer: 4", "[THINK]Answer: 4[/THINK] Answer: 3", "<think>Answer: 3"]


def test_thinking_tags_of_a_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text('dataset_name: x\nthinking_tags: ["[THINK]", "[/THINK]"]\n')
    for words in (["--config", str(path)], ["--dataset_name", "x", "--thinking_tags", "[THINK]", "[/THINK]"]):
        script_args, *_ = make_parser().parse([*words, "--output_dir", str(tmp_path / "out"), "--bf16", "false"])
        (reward,) = load_rewards(script_args)
        assert reward.thinking_tags == ("[THINK]", "[/THINK]")
        assert reward(completions=TAGGED, solution=["3"] * 3) == [-1.0, 1.0, 1.0]


def test_thinking_that_the_chat_template_begins():
    (reward,) = load_rewards(DAPOScriptArguments(dataset_name="x", thinking_tags=["", "</think>"]))
    dataset = Dataset.from_dict({"prompt": ["Q?"] * 2, "solution": ["3", "4"]})
    assert reward(completions=["Answer: 3", "</think>Answer: 3"], solution=["3"] * 2) == [-1.0, 1.0]
    check_dataset(dataset, [reward], sample=2)  # golds are written after the end of a thinking


@pytest.mark.parametrize("tags", [["<think>"], ["<think>", ""], ["<t>", "<t>"], ["a", "b", "c"], "ab", [1, 2], []])
def test_thinking_tags_that_are_refused(tags):
    with pytest.raises(ValueError, match=r"`thinking_tags` is .*, but it must be two texts, the beginning"):
        load_rewards(DAPOScriptArguments(dataset_name="x", thinking_tags=tags))


# What is refused


def test_an_unknown_key_of_the_recipe_is_an_error(recipe):
    with pytest.raises(ValueError, match="max_prompt_lenght"):
        main(recipe(max_prompt_lenght=512))


def test_an_unknown_flag_is_an_error(recipe):
    with pytest.raises((ValueError, SystemExit), match="--num_generation_s|num_generation_s"):
        main([*recipe(), "--num_generation_s", "4"])


def test_an_invalid_value_is_an_error(recipe):
    with pytest.raises(ValueError, match="max_rounds=0 is below 1"):
        main(recipe(max_rounds=0))


def test_a_model_must_be_named(recipe):
    with pytest.raises(ValueError, match="model_name_or_path is not set. Set it to a model id on the Hub or a local"):
        main(recipe(model_name_or_path=None))


def test_an_unknown_reward_is_an_error(recipe):
    with pytest.raises(ValueError, match="no reward 'acuracy'.*Known names: accuracy"):
        main(recipe(reward_funcs=["acuracy"]))


# Resuming


@pytest.fixture(scope="module")
def interrupted(base, tmp_path_factory) -> Path:
    """The output directory of a run of three steps: a rollout and a half."""
    directory = tmp_path_factory.mktemp("interrupted")
    fields = base | {"output_dir": str(directory / "out"), "max_steps": 3}
    main(["--config", write_recipe(directory / "recipe.yaml", fields)])
    return directory / "out"


def test_resume_takes_the_last_complete_checkpoint(recipe, interrupted, tmp_path, trainers, caplog):
    output_dir = Path(shutil.copytree(interrupted, tmp_path / "out"))
    (output_dir / "checkpoint-3" / "trainer_state.json").unlink()
    caplog.set_level("INFO")
    main(recipe(resume_from_checkpoint=True))
    assert f"Resuming from {output_dir / 'checkpoint-2'}" in caplog.text
    # The same weights as the run that was not interrupted.
    whole = AutoModelForCausalLM.from_pretrained(interrupted / "checkpoint-3")
    assert torch.equal(weights(AutoModelForCausalLM.from_pretrained(output_dir)), weights(whole))


def test_resume_from_a_given_checkpoint(recipe, interrupted, trainers):
    main([*recipe(), "--resume_from_checkpoint", str(interrupted / "checkpoint-1")])
    (trainer,) = trainers
    whole = AutoModelForCausalLM.from_pretrained(interrupted / "checkpoint-3")
    assert torch.equal(weights(trainer.model), weights(whole))


def test_resume_without_a_checkpoint_is_a_fresh_start(recipe, tmp_path, trainers, caplog):
    main(recipe(resume_from_checkpoint=True, max_steps=1))
    assert f"no complete checkpoint in '{tmp_path / 'out'}'; starting from scratch" in caplog.text
    assert trainers[0].state.global_step == 1


@pytest.mark.parametrize("value", [None, False, "false", "null", "None"])
def test_no_resume(interrupted, value):
    assert checkpoint_to_resume(value, str(interrupted)) is None


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_last_complete(interrupted, value):
    assert checkpoint_to_resume(value, str(interrupted)) == str(interrupted / "checkpoint-3")


def test_a_given_checkpoint_must_be_complete(tmp_path):
    with pytest.raises(ValueError, match="nowhere' is not a complete checkpoint"):
        checkpoint_to_resume(str(tmp_path / "nowhere"), str(tmp_path))


# As users run it


def test_accelerate_launch(recipe, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", "-m", "dapo_trl.train"]
    finished = subprocess.run(
        [*launch, *recipe(max_steps=2)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert f"Model saved to {tmp_path / 'out'}." in finished.stdout
    assert final_state(tmp_path / "out", 2).global_step == 2


def test_parser_reads_every_kind_of_value(recipe):
    fields: dict[str, Any] = {"soft_punish_cache": 4, "max_oversampling": 1.5, "balance_micro_batches": False}
    script_args, training_args, model_args = make_parser().parse_args_and_config(recipe(**fields))
    assert {name: getattr(training_args, name) for name in fields} == fields
    assert script_args.reward_funcs == ["tests.command.starts_low"]
    assert model_args.dtype == "float32"


@pytest.mark.parametrize(
    ("fields", "words", "message"),
    [
        (
            {"model_name_or_path": "no/model", "use_vllm": True, "vllm_mode": "server"},
            [],
            "error: vllm_mode='server' cannot train on the device 'cpu'.*use_cpu: false.*or set use_vllm to false",
        ),
        ({}, [], "error: model_name_or_path is not set. Set it to a model id"),
        ({"model_name_or_path": "no/model", "load_in_4bit": True}, [], "error: load_in_4bit=True .*use_peft"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(tmp_path, capsys, fields, words, message):
    """Said before model or data are looked for."""
    recipe = write_recipe(tmp_path / "recipe.yaml", {"dataset_name": "no/data"} | fields)
    with pytest.raises(SystemExit) as stopped:
        main(["--config", recipe, *words], while_parsing=errors_in_one_line)
    assert stopped.value.code == 2
    assert re.match(message, capsys.readouterr().err.splitlines()[-1])
