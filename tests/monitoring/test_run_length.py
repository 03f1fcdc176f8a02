"""What does not fit the length of a run, and rates that do not fit what is trained."""

import pytest
import torch
from peft import LoraConfig

from dapo_trl import DAPOTrainer
from dapo_trl.checks import model as model_checks
from dapo_trl.monitoring.run_length import schedule_factors
from tests.helpers import build, tiny_model, train


ROLLOUTS_OF_TWO = {"updates_per_rollout": 2, "lr_scheduler_type": "constant_with_warmup", "logging_steps": None}


def warnings_of(caplog, config: dict, **arguments) -> list[str]:
    """What a run warns of when it begins, of lengths and rates."""
    caplog.clear()
    train(DAPOTrainer, ROLLOUTS_OF_TWO | config, **arguments)
    modules = ("dapo_trl.monitoring.run_length", "dapo_trl.checks.model")
    return [record.getMessage().removeprefix("[RANK 0] ") for record in caplog.records if record.name in modules]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            # 4 rollouts of 2 steps: after 6 steps the rate of the last one is 5/8.
            {"warmup_rollouts": 4},
            "warmup_rollouts=4 (8 optimizer steps) is too long for max_steps=6: learning_rate=0.001 is never reached "
            "(the highest rate is 0.00063). Lower warmup_rollouts, or train longer.",
        ),
        ({"warmup_rollouts": 3}, "warmup_rollouts=3 (6 optimizer steps) is too long for max_steps=6: learning_rate="),
        ({"warmup_rollouts": 2}, "learning_rate=0.001 is reached in the second half only (the highest rate is 0.001)"),
        ({"warmup_steps": 20}, "warmup_steps=20 is too long for max_steps=6: learning_rate=0.001 is never reached"),
        ({"warmup_steps": 0.9}, "warmup_steps=0.9 is too long for max_steps=6"),
        (
            # Half of the 40 prompts, 4 in each rollout: 5 rollouts of 2 steps.
            {"warmup_rollouts": 20, "max_steps": -1, "num_train_epochs": 0.5},
            "warmup_rollouts=20 (40 optimizer steps) is too long for num_train_epochs=0.5 (10 optimizer steps)",
        ),
        ({"warmup_rollouts": 9, "lr_scheduler_type": "cosine"}, "warmup_rollouts=9 (18 optimizer steps) is too long"),
        ({"warmup_rollouts": 9, "lr_scheduler_type": "linear"}, "warmup_rollouts=9 (18 optimizer steps) is too long"),
        ({"warmup_steps": 30, "lr_scheduler_type": "inverse_sqrt"}, "warmup_steps=30 is too long for max_steps=6"),
        (
            {"max_steps": 5},
            "max_steps=5 ends in the middle of a rollout: the last one is trained on in 1 of its 2 optimizer steps, "
            "and its other completions were generated for nothing. Set max_steps to 4 or 6.",
        ),
        ({"max_steps": 3, "updates_per_rollout": 1, "num_iterations": 2}, "Set max_steps to 2 or 4."),
        ({"logging_steps": 7}, "logging_steps=7 is more than max_steps=6: nothing is logged, and no alarm can be rai"),
        (
            {"eval_rollouts": 4, "per_device_eval_batch_size": 4},
            "eval_steps=8 is more than max_steps=6: the model is never evaluated. Lower eval_steps, or train longer.",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_warned_of_once(config, expected, caplog):
    dataset = {"eval_dataset": build(DAPOTrainer).train_dataset.select(range(2))} if "eval_rollouts" in config else {}
    (message,) = warnings_of(caplog, config, **dataset)
    assert expected in message


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"warmup_rollouts": 1},
        {"warmup_steps": 3},
        {"warmup_steps": 0.3},
        {"lr_scheduler_type": "linear", "warmup_rollouts": 1},
        {"lr_scheduler_type": "cosine"},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 3.0}},
        {"max_steps": -1, "num_train_epochs": 1},
        {"logging_steps": 6},
        {"learning_rate": 0.0},
    ],
    ids=str,
)
def test_no_needless_warning(config, caplog):
    assert warnings_of(caplog, config) == []


def test_a_run_of_less_than_a_rollout(caplog):
    end, log = warnings_of(caplog, {"max_steps": 1})
    assert end.endswith("Set max_steps to 2.")
    assert log.startswith("logging_steps=2 is more than max_steps=1: ")


def test_another_rate_for_a_run_that_is_resumed_has_no_effect(caplog):
    saved = ROLLOUTS_OF_TWO | {"save_strategy": "steps", "save_steps": 2}
    output_dir = train(DAPOTrainer, saved | {"max_steps": 4}).args.output_dir
    caplog.clear()
    build(DAPOTrainer, saved | {"learning_rate": 1e-4}).train(resume_from_checkpoint=f"{output_dir}/checkpoint-2")
    assert "learning_rate=0.0001 has no effect: the checkpoint goes on with its own, 0.001." in caplog.text
    caplog.clear()
    build(DAPOTrainer, saved).train(resume_from_checkpoint=f"{output_dir}/checkpoint-2")
    assert "has no effect" not in caplog.text


def test_schedule_factors():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert schedule_factors(scheduler, 3) == [0.0, 0.1, 0.2]
    wrapped = type("Wrapper", (), {"scheduler": scheduler})()
    assert schedule_factors(wrapped, 1) == [0.0]
    assert schedule_factors(scheduler, 25_000)[:3] == [0.0, 0.3, 0.6]
    assert schedule_factors(torch.optim.lr_scheduler.StepLR(optimizer, 2), 3) == []
    assert schedule_factors(None, 3) == []


# Rates


ADAPTER = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")


@pytest.mark.parametrize(
    ("config", "peft_config", "least", "expected"),
    [
        ({"learning_rate": 1e-6}, ADAPTER, 10**8, "learning_rate=1e-06 suits the training of all weights; adapters"),
        ({"learning_rate": 1e-5}, ADAPTER, 10**8, None),
        ({"learning_rate": 1e-6, "optim": "sgd"}, ADAPTER, 10**8, None),
        ({"learning_rate": 1e-6}, None, 1, None),
        ({"learning_rate": 1e-4}, None, 1, "learning_rate=0.0001 suits adapters (use_peft); all weights are trained"),
        ({"learning_rate": 1e-4}, None, 10**8, None),  # a small model
        ({"learning_rate": 1e-4, "optim": "sgd"}, None, 1, None),
    ],
)
def test_rates(config, peft_config, least, expected, caplog, monkeypatch):
    monkeypatch.setattr(model_checks, "LARGE_MODEL", least)
    build(DAPOTrainer, config, peft_config=peft_config)
    messages = [record.getMessage() for record in caplog.records if " suits " in record.getMessage()]
    assert len(messages) == (expected is not None)
    assert all(expected in message for message in messages)


def test_the_small_model_of_the_tests_is_small():
    assert sum(parameter.numel() for parameter in tiny_model().parameters()) < model_checks.LARGE_MODEL
