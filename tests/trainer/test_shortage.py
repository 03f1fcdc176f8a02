"""Rollouts that cannot be filled: trained in part, refused, or the clean end of a run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from dapo_trl import DAPOTrainer
from dapo_trl.run.checkpoint import last_complete_checkpoint, load_state
from dapo_trl.sampling.refill import ShortageError

from ..helpers import build, largest_difference, tiny_model, train, weights
from ..scripted_groups import (
    ALL_RIGHT,
    ALL_WRONG,
    MISSING,
    MIXED,
    Groups,
    ScriptedGroups,
    deciding,
    prompts_of,
    read_table,
)


TWO_ROUNDS = {"max_rounds": 2, "max_oversampling": 1.0}
"""At most four prompts for a rollout of two groups."""

SGD = {"optim": "sgd", "learning_rate": 1.0}
"""The difference of weights is that of gradients: AdamW would blow up the smallest of them."""


class Recorder(TrainerCallback):
    """Remembers what it was told of."""

    def __init__(self):
        self.events: list[str] = []

    def on_save(self, args, state, control, **kwargs):
        self.events.append(f"save {state.global_step}")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("train end")


def arguments_of(groups: Groups, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": {"max_steps": 1, "shuffle_dataset": False, "learning_rate": 1e-2} | config,
        "train_dataset": prompts_of(groups),
        "reward_funcs": deciding,
        "rollout_func": ScriptedGroups(groups),
    }


def train_on(groups: Groups, config: dict[str, Any] | None = None) -> DAPOTrainer:
    return train(DAPOTrainer, **arguments_of(groups, config or {}))


def warning_of(caplog, text: str) -> str:
    (message,) = [record.message for record in caplog.records if text in record.message]
    return message


def assert_same_training(trainer: DAPOTrainer, other: DAPOTrainer) -> None:
    assert largest_difference(weights(trainer.model), weights(other.model)) < 1e-6
    assert largest_difference(weights(trainer.model), weights(tiny_model())) > 1e-2


# train_partial


def of_loss(loss_type: str) -> dict:
    return {"loss_type": loss_type} | ({"epsilon_high": 5.0} if loss_type == "cispo" else {})


@pytest.mark.parametrize("loss_type", ["dapo", "cispo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("micro_batches", [(4, 2), (1, 8)])
def test_a_partial_rollout_trains_as_a_smaller_one(caplog, loss_type, micro_batches):
    batch_size, accumulation = micro_batches
    partial = train_on(
        {0: ALL_WRONG, 1: MIXED, 2: ALL_RIGHT, 3: ALL_WRONG, 4: MIXED},
        TWO_ROUNDS
        | SGD
        | {
            **of_loss(loss_type),
            "per_device_train_batch_size": batch_size,
            "gradient_accumulation_steps": accumulation,
        },
    )
    warning = warning_of(caplog, "Training on these")
    assert "Only 1 of the 2 informative groups of a rollout were found among 4 generated" in warning
    assert "(1 all correct, 2 all wrong, 0 unscorable), and max_rounds=2 rounds are used up" in warning

    smaller = train_on({1: MIXED}, SGD | of_loss(loss_type) | {"gradient_accumulation_steps": 1})
    assert_same_training(partial, smaller)


def test_rows_of_a_partial_rollout_are_dealt_to_all_its_steps():
    updates = SGD | {"updates_per_rollout": 2, "max_steps": 2, "max_rounds": 1, "max_oversampling": 1.0}
    # Three groups of four where there should be four: six rows for each of two optimizer steps.
    partial = train_on({0: MIXED, 1: MIXED, 2: ALL_WRONG, 3: MIXED}, updates)
    smaller = train_on({0: MIXED, 1: MIXED, 3: MIXED}, updates | {"per_device_train_batch_size": 3})
    assert partial.state.global_step == smaller.state.global_step == 2
    assert_same_training(partial, smaller)


def test_padding_rows_leave_no_trace():
    groups = {0: ALL_WRONG, 1: MIXED, 2: ALL_RIGHT, 3: ALL_WRONG, 4: MIXED}
    trainer = train_on(groups, TWO_ROUNDS | {"log_completions": True})
    table = read_table(trainer.args.output_dir, 1)
    assert [(row["prompt"], row["dynamic_sampling"]) for row in table[::4]] == [
        ("p01", "kept"),
        ("p00", "all_wrong"),
        ("p02", "all_correct"),
        ("p03", "all_wrong"),
    ]
    (record, _) = trainer.state.log_history
    # Four times -1 | 1 -1 1 -1 | four times 1 | four times -1
    assert record["reward"] == -0.25
    assert record["dynamic_sampling/trained_reward"] == 0.0
    assert record["dynamic_sampling/generated_per_trained"] == 4.0
    assert record["completions/max_length"] == 4


def test_a_rollout_that_has_drawn_the_whole_data_set_is_a_shortage(caplog):
    trainer = train_on([MIXED, ALL_WRONG, MISSING])
    assert trainer.state.global_step == 1
    warning = warning_of(caplog, "Training on these")
    assert "Only 1 of the 2 informative groups of a rollout were found among 3 generated" in warning
    assert "this rollout has drawn the whole data set (3 prompts)" in warning
    assert trainer.state.log_history[0]["dynamic_sampling/epoch"] == 1.0


# Fewer groups than optimizer steps: the clean end of a run


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("length", [{"max_steps": 9}, {"max_steps": -1, "num_train_epochs": 3}])
def test_training_ends_before_a_step_that_would_have_no_row(caplog, accumulation, length):
    # The first rollout of two groups is full, the second finds nothing.
    groups = [MIXED, MIXED, *[ALL_WRONG] * 6]
    config = length | TWO_ROUNDS | {"gradient_accumulation_steps": accumulation, "save_strategy": "steps"}
    config |= {"per_device_train_batch_size": 8 // accumulation, "save_steps": 100}
    trainer, recorder = build(DAPOTrainer, **arguments_of(groups, config)), Recorder()
    trainer.add_callback(recorder)
    output = trainer.train()

    assert (output.global_step, trainer.state.global_step) == (1, 1)
    assert output.training_loss == pytest.approx(trainer.state.log_history[0]["loss"], abs=1e-4)
    assert output.metrics["train_loss"] == output.training_loss
    assert recorder.events == ["save 1", "train end"]
    warning = warning_of(caplog, "Training ends")
    assert "Training ends before optimizer step 2. Only 0 of the 2 informative groups" in warning
    assert "(0 all correct, 4 all wrong, 0 unscorable)" in warning
    assert "too hard, or the reward cannot read the answers" in warning
    assert "At least 1 are needed to give every optimizer step a row." in warning
    # The weights are those of one optimizer step.
    assert torch.equal(weights(trainer.model), weights(train_on(groups, config | {"max_steps": 1}).model))


def test_every_optimizer_step_of_a_rollout_needs_a_row(caplog):
    # Six updates need six rows, that is two groups of four; one is found.
    groups = {0: MIXED, **dict.fromkeys(range(1, 12), ALL_RIGHT)}
    trainer = train_on(groups, {"updates_per_rollout": 6, "max_steps": 6, "max_rounds": 1, "max_oversampling": 1.0})
    assert trainer.state.global_step == 0
    warning = warning_of(caplog, "Training ends before optimizer step 1.")
    assert "Only 1 of the 12 informative groups of a rollout were found among 12 generated" in warning
    assert "At least 2 are needed" in warning


def test_without_checkpoints_the_end_is_clean_too():
    trainer = build(DAPOTrainer, **arguments_of([ALL_WRONG] * 4, TWO_ROUNDS))
    assert trainer.train().global_step == 0
    assert last_complete_checkpoint(trainer.args.output_dir) is None


@pytest.mark.parametrize("save_steps", [1, 100])
def test_a_run_that_ended_can_be_resumed(save_steps):
    groups = [MIXED, MIXED, *[ALL_WRONG] * 6, MIXED, MIXED]
    config = TWO_ROUNDS | {"max_steps": 2, "save_strategy": "steps", "save_steps": save_steps}
    trainer = build(DAPOTrainer, **arguments_of(groups, config))
    trainer.train()
    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    assert Path(checkpoint).name == "checkpoint-1"
    # The prompts of the rollout that could not be filled are not drawn again: it starts with the seventh.
    assert load_state(checkpoint, 0)["prompt_stream"]["cursor"] == 6

    # The unlucky prompts p06 and p07 come first, then the two good ones.
    resumed = build(DAPOTrainer, **arguments_of(groups, config | {"log_completions": True}))
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.state.global_step == 2
    kept = [row["prompt"] for row in read_table(resumed.args.output_dir, 2) if row["dynamic_sampling"] == "kept"]
    assert kept == ["p08"] * 4 + ["p09"] * 4


def test_a_run_that_ended_before_its_first_step_can_be_resumed():
    config = TWO_ROUNDS | {"save_strategy": "steps", "save_steps": 100}
    groups = [ALL_WRONG] * 4 + [MIXED] * 2
    trainer = train_on(groups, config)
    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    assert Path(checkpoint).name == "checkpoint-0"
    resumed = build(DAPOTrainer, **arguments_of(groups, config))
    assert resumed.train(resume_from_checkpoint=checkpoint).global_step == 1
    assert torch.equal(weights(resumed.model), weights(train_on({4: MIXED, 5: MIXED}).model))


# raise


def test_a_shortage_may_stop_the_run_with_an_error():
    groups = [MIXED, MIXED, MIXED, ALL_RIGHT, MISSING, ALL_WRONG, MIXED, MIXED, MIXED]
    config = TWO_ROUNDS | {"on_shortage": "raise", "max_steps": 3, "save_strategy": "steps", "save_steps": 100}
    trainer, recorder = build(DAPOTrainer, **arguments_of(groups, config)), Recorder()
    trainer.add_callback(recorder)
    message = (
        r"Only 1 of the 2 informative groups of a rollout were found among 4 generated \(1 all correct, 1 all wrong, "
        r"1 unscorable\), and max_rounds=2"
    )
    with pytest.raises(ShortageError, match=message):
        trainer.train()
    assert recorder.events == ["save 1"]

    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    assert Path(checkpoint).name == "checkpoint-1"
    resumed = build(DAPOTrainer, **arguments_of(groups, config | {"max_steps": 2}))
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.state.global_step == 2


def test_an_error_without_checkpoints():
    trainer = build(DAPOTrainer, **arguments_of([ALL_WRONG] * 4, TWO_ROUNDS | {"on_shortage": "raise"}))
    with pytest.raises(ShortageError, match="Only 0 of the 2 informative groups"):
        trainer.train()
    assert last_complete_checkpoint(trainer.args.output_dir) is None
