"""A run that has trained nothing: its own exit status, the reason in the last line, no model, no push."""

import math
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from dapo_trl import DAPOTrainer
from dapo_trl import train as train_module
from dapo_trl.run.checkpoint import last_complete_checkpoint
from dapo_trl.run.early_end import NOTHING_TRAINED
from dapo_trl.train import main

from ..command import save_base, starts_low, write_recipe
from ..distributed.launcher import run
from ..helpers import ScriptedRollouts, build, correct, train


OFF = {"dynamic_sampling": False}


def always_half(completion_ids, **kwargs):
    return [0.5] * len(completion_ids)


def always_wrong(completion_ids, **kwargs):
    return [-1.0] * len(completion_ids)


def always_none(completion_ids, **kwargs):
    return [None] * len(completion_ids)


def always_nan(completion_ids, **kwargs):
    return [math.nan] * len(completion_ids)


def by_prompt(prompts, **kwargs):
    return [float(len(prompt) % 2) for prompt in prompts]


def opposite(completion_ids, **kwargs):
    return [-value for value in correct(completion_ids)]


# The trainer knows


@pytest.mark.parametrize(
    ("reward", "config", "reason"),
    [
        (always_half, {}, "Every completion was judged 0.5. Check that the reward depends"),
        (always_wrong, {}, "Every completion was judged -1. The prompts are too hard, or"),
        (always_none, {}, "The filter reward returns None"),
        (always_nan, {}, "The filter reward returns None"),
        (by_prompt, {}, "All completions of a prompt have the same filter reward, whatever the prompt"),
        (always_half, OFF, "In the last rollout every reward is 0.5, so that no completion is better"),
        (always_none, OFF, "In the last rollout no reward function scored any completion"),
        (always_nan, OFF, "In the last rollout no reward function scored any completion"),
        (
            by_prompt,
            OFF | {"shuffle_dataset": False},
            "In the last rollout all completions of a prompt have the same reward",
        ),
        (always_half, OFF | {"balance_micro_batches": False}, "In the last rollout every reward is 0.5"),
    ],
)
def test_a_trainer_says_why(reward, config, reason):
    trainer = train(DAPOTrainer, {"max_steps": 2, "max_rounds": 2} | config, reward_funcs=reward)
    assert reason in trainer.reason_untrained
    assert "too easy" not in trainer.reason_untrained
    assert trainer.state.global_step == (2 if config else 0)


def test_rewards_that_cancel_out():
    config = {"dynamic_sampling_metric": "correct", "max_steps": 2}
    trainer = train(DAPOTrainer, config, reward_funcs=[correct, opposite])
    assert "every reward is 0, so that" in trainer.reason_untrained


def test_completions_that_are_cut_off():
    def starts(frac_truncated):
        return {"rollout_func": ScriptedRollouts(frac_truncated=frac_truncated)}

    config = {"max_steps": 1, "mask_truncated_completions": True, **OFF}
    assert "every completion was cut off" in train(DAPOTrainer, config, **starts(1.0)).reason_untrained
    assert train(DAPOTrainer, config, **starts(0.5)).reason_untrained is None
    wrong = train(DAPOTrainer, {"max_rounds": 1}, reward_funcs=always_wrong, **starts(1.0))
    assert "100% of the completions are cut off before they reach an answer" in wrong.reason_untrained


@pytest.mark.parametrize("config", [{}, OFF, OFF | {"balance_micro_batches": False}])
def test_one_rollout_that_teaches_is_enough(config):
    def at_first(completion_ids, trainer_state, **kwargs):
        return (correct if trainer_state.global_step == 0 else always_half)(completion_ids)

    trainer = train(
        DAPOTrainer, {"max_steps": 3, "max_rounds": 2, "save_strategy": "steps"} | config, reward_funcs=at_first
    )
    assert trainer.reason_untrained is None


@pytest.mark.parametrize("max_steps", [3, 2])
@pytest.mark.parametrize("reward", [correct, always_half])
def test_a_resumed_run_remembers(reward, max_steps):
    """Also one that has come to its end, whose final model is still to be saved."""
    config = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, **OFF}
    trainer = train(DAPOTrainer, config, reward_funcs=reward)
    resumed = build(DAPOTrainer, config | {"max_steps": max_steps}, reward_funcs=always_half)
    resumed.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-2")
    assert (resumed.reason_untrained is None) == (reward is correct)


def test_a_second_training_counts_for_itself():
    reward = correct
    trainer = train(
        DAPOTrainer, {"max_steps": 1, **OFF}, reward_funcs=lambda completion_ids, **_: reward(completion_ids)
    )
    assert trainer.reason_untrained is None
    reward = always_half
    trainer.train()
    assert "every reward is 0.5" in trainer.reason_untrained


# The command


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> dict[str, str]:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(base, tmp_path):
    def write(reward: str, **fields) -> list[str]:
        rewards = {"reward_funcs": [f"tests.run.test_nothing_trained.{reward}"], "max_rounds": 1}
        fields = base | {"output_dir": str(tmp_path / "out")} | rewards | fields
        return ["--config", write_recipe(tmp_path / "recipe.yaml", fields)]

    return write


@pytest.mark.parametrize(
    ("reward", "fields", "reason"),
    [
        ("always_half", {}, "Every completion was judged 0.5."),
        ("always_none", {}, "The filter reward returns None"),
        ("always_half", OFF, "In the last rollout every reward is 0.5"),
        ("always_wrong", {"save_strategy": "no"}, "Every completion was judged -1."),
    ],
)
def test_the_command_ends_with_the_reason(recipe, tmp_path, capsys, reward, fields, reason):
    output_dir = tmp_path / "out"
    output_dir.mkdir()
    (output_dir / "model.safetensors").write_text("of an earlier run")
    with pytest.raises(SystemExit) as end:
        main(recipe(reward, **fields))
    assert end.value.code == NOTHING_TRAINED == 3
    printed = capsys.readouterr()
    assert "Model saved" not in printed.out
    last_line = printed.err.splitlines()[-1]
    assert last_line.startswith(f"error: Nothing has been trained, so no model is saved to {output_dir} or pushed. ")
    assert reason in last_line
    assert (output_dir / "model.safetensors").read_text() == "of an earlier run"
    assert (output_dir / "trainer_state.json").is_file()
    assert (last_complete_checkpoint(str(output_dir)) is None) == (fields == {"save_strategy": "no"})


@pytest.mark.parametrize(("strategy", "fields"), [("every_save", {}), ("all_checkpoints", OFF), ("end", {})])
def test_nothing_is_pushed(recipe, monkeypatch, strategy, fields):
    calls = []

    class Recording:
        def __init__(self, *args):
            self.address = "address"

        def __getattr__(self, name):
            return lambda *args, **kwargs: calls.append(name)

    monkeypatch.setattr("dapo_trl.hub.publishing.Publisher", Recording)
    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **kwargs: type("Repo", (), {"repo_id": "me/model"})())
    arguments = recipe("always_half", push_to_hub=True, hub_strategy=strategy, hub_model_id="me/model", **fields)
    with pytest.raises(SystemExit):
        main(arguments)
    assert set(calls) <= {"leave_out"}
    # The same run with a reward that teaches does push.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "load_rewards", lambda _: [starts_low])
        main(arguments)
    assert "finish" in calls


def test_a_launcher_ends_with_the_reason(recipe, tmp_path):
    fields = {"ddp_backend": "gloo", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    finished = run([*command, "-m", "dapo_trl.train", *recipe("always_half", **fields)], env={})
    assert finished.returncode == 1
    cause = finished.stderr.split("Root Cause (first observed failure)")[1]
    assert "exitcode  : 3" in cause and "Every completion was judged 0.5" in cause
    assert "Model saved" not in finished.stdout
    assert not list(Path(tmp_path / "out").glob("*.safetensors"))
