"""Losses, gradients and weights that are NaN or infinite: an alarm by name, and nothing good is lost."""

import logging
import os
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOTrainer

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.finite import NonFiniteWeightsError, non_finite_parameters, non_finite_step
from tests.helpers import ScriptedRollouts, build, spare_garbage_collection, tiny_model, train, weights
from tests.non_finite import NonFiniteLoss, SpoiltWeights


TWO_ROLLOUTS = {"updates_per_rollout": 3, "max_steps": 6, "max_grad_norm": 1.0}
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
INF, NAN = float("inf"), float("nan")


class NonFiniteGradient(DAPOTrainer):
    """The loss is finite, but one gradient of one optimizer step is not."""

    value, at_step = INF, 4

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        next(self.model.parameters()).register_hook(self._spoil)

    def _spoil(self, gradient):
        return gradient * self.value if self.state.global_step + 1 == self.at_step else gradient


class WeightsAfterSteps(TrainerCallback):
    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(weights(model))


def of_alarms(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]


def made(cls: type, **attributes: Any) -> type:
    return type(cls.__name__, (cls,), attributes)


@pytest.mark.parametrize("logging_nan_inf_filter", [True, False])
@pytest.mark.parametrize(
    ("cls", "config", "reason"),
    [
        (made(NonFiniteLoss, value=NAN), {}, "The loss of optimizer step 4 is nan."),
        (made(NonFiniteLoss, value=INF), {}, "The loss of optimizer step 4 is "),
        (NonFiniteLoss, {"loss_type": "grpo", "on_shortage": "raise"}, "The loss of optimizer step 4 is nan."),
        (NonFiniteLoss, {"dynamic_sampling": False, "balance_micro_batches": False}, "The loss of optimizer step 4"),
        (made(NonFiniteGradient, value=INF), {}, "The gradient norm (grad_norm) of optimizer step 4 is "),
        (made(NonFiniteGradient, value=NAN), {}, "The gradient norm (grad_norm) of optimizer step 4 is nan."),
        (NonFiniteGradient, {"max_grad_norm": 0.0}, "The gradient norm (grad_norm) of optimizer step 4 is "),
    ],
    ids=str,
)
def test_a_step_that_is_not_finite_is_left_out(cls, config, reason, logging_nan_inf_filter, caplog):
    after = WeightsAfterSteps()
    config = TWO_ROLLOUTS | {"logging_nan_inf_filter": logging_nan_inf_filter} | config
    trainer = train(cls, config, callbacks=[after])
    (message,) = of_alarms(caplog)
    assert message.removeprefix("[RANK 0] ").startswith(f"Rollout 2: {reason}")
    assert trainer.state.global_step == 6
    changed = [not torch.equal(a, b) for a, b in zip(after.weights[:-1], after.weights[1:], strict=True)]
    assert changed == [True, True, False, True, True]
    assert weights(trainer.model).isfinite().all()


def test_the_same_step_makes_the_weights_of_grpo_trainer_nan():
    # What the alarm is there for. With Trainer's filter, which is on by default, the log shows a loss all the while.
    class Spoilt(GRPOTrainer):
        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            return loss * NAN if self.state.global_step == 1 else loss

    trainer = train(Spoilt, {"max_steps": 3})
    assert weights(trainer.model).isnan().any()
    assert all(logs["loss"] == logs["loss"] for logs in trainer.state.log_history if "loss" in logs)


@pytest.mark.parametrize("value", [INF, NAN])
def test_only_the_step_itself_has_no_loss(value):
    trainer = train(made(NonFiniteLoss, value=value), TWO_ROLLOUTS | {"logging_nan_inf_filter": False})
    losses = torch.tensor([record["loss"] for record in trainer.state.log_history if "loss" in record])
    assert losses.isfinite().tolist() == [True, True, True, False, True, True]


def test_every_rollout_warns_once(caplog):
    class Always(NonFiniteLoss):
        at_step = property(lambda self: self.state.global_step + 1)

    train(Always, TWO_ROLLOUTS)
    assert [message.removeprefix("[RANK 0] ")[:10] for message in of_alarms(caplog)] == ["Rollout 1:", "Rollout 2:"]


@pytest.mark.parametrize("at_step", [1, 2, 3, 4, 6])
def test_a_run_stops_before_the_step_and_can_go_on(at_step, caplog):
    whole = train(DAPOTrainer, TWO_ROLLOUTS)
    config = TWO_ROLLOUTS | SAVED | {"on_alarm": "stop", "save_steps": 100}
    stopped = train(made(NonFiniteLoss, at_step=at_step), config)
    assert stopped.state.global_step == at_step - 1
    assert f"Training ends before optimizer step {at_step}. The loss of" in caplog.text
    rollouts = ScriptedRollouts()
    resumed = build(DAPOTrainer, config, rollout_func=rollouts)
    resumed.train(resume_from_checkpoint=f"{stopped.args.output_dir}/checkpoint-{at_step - 1}")
    assert resumed.state.global_step == 6
    if at_step in (2, 3, 6):  # a rollout of which a step has been trained is trained on to its end
        assert torch.equal(weights(resumed.model), weights(whole.model))
    assert (rollouts.num_rows == []) == (at_step > 4)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(("at_step", "seen_at"), [(1, 2), (3, 3), (5, 6)], ids=["saving", "rollout", "end"])
def test_weights_that_are_not_finite_end_the_run_and_leave_the_last_checkpoint(at_step, seen_at, value, tmp_path):
    # Saved before: the state after two steps, from a run that went well.
    config = TWO_ROLLOUTS | SAVED | {"output_dir": str(tmp_path), "save_steps": 2}
    callbacks = [SpoiltWeights(at_step, value)]
    trainer = build(DAPOTrainer, config, callbacks=callbacks)
    with pytest.raises(
        NonFiniteWeightsError, match=rf"after optimizer step {seen_at}: model\.embed_tokens\.weight\. "
    ):
        trainer.train()
    last_good = {1: [], 3: ["checkpoint-2"], 5: ["checkpoint-4"]}[at_step]
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("checkpoint")) == last_good


def test_the_error_names_the_checkpoint_to_go_on_from(tmp_path):
    config = TWO_ROLLOUTS | SAVED | {"output_dir": str(tmp_path)}
    with pytest.raises(NonFiniteWeightsError, match=f"Resume from {tmp_path}/checkpoint-2 with a lower learning_rate"):
        train(DAPOTrainer, config, callbacks=[SpoiltWeights(3)])
    config = TWO_ROLLOUTS | {"output_dir": str(tmp_path / "other")}
    with pytest.raises(NonFiniteWeightsError, match="No checkpoint has been written: start again with a lower"):
        train(DAPOTrainer, config, callbacks=[SpoiltWeights(3)])


def test_a_run_that_ends_in_the_middle_of_a_rollout_is_looked_at_without_saving():
    with pytest.raises(NonFiniteWeightsError, match="after optimizer step 4: "):
        train(DAPOTrainer, TWO_ROLLOUTS | {"max_steps": 4}, callbacks=[SpoiltWeights(4)])


def test_a_learning_rate_that_is_much_too_high(caplog):
    trainer = train(DAPOTrainer, TWO_ROLLOUTS | {"optim": "sgd", "learning_rate": 1e30})
    assert "The loss of optimizer step 2 is nan." in of_alarms(caplog)[0]
    assert weights(trainer.model).isfinite().all()


def test_adapters_are_looked_at():
    adapter = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with pytest.raises(NonFiniteWeightsError, match=r"after optimizer step 3: \S*lora_\S*weight"):
        train(DAPOTrainer, TWO_ROLLOUTS, peft_config=adapter, callbacks=[SpoiltWeights(3)])


def test_a_model_that_is_not_finite_is_refused_before_anything_is_generated():
    model, rollouts = tiny_model(), ScriptedRollouts()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = NAN
    with pytest.raises(
        NonFiniteWeightsError, match=r"before it is trained: model\.layers\.1\.mlp\.up_proj\.weight\. "
    ):
        train(DAPOTrainer, TWO_ROLLOUTS, model=model, rollout_func=rollouts)
    assert rollouts.num_rows == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_non_finite_parameters(dtype):
    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("a", "b", "c")}).to(dtype)
    model["b"].weight.data[1, 1] = INF
    model["c"].requires_grad_(False).bias.data[0] = NAN
    model["a"].register_parameter("codes", torch.nn.Parameter(torch.ones(3, dtype=torch.uint8), requires_grad=False))
    accelerator = Accelerator(cpu=True)
    assert non_finite_parameters(model, accelerator) == ["b.weight"]
    assert non_finite_parameters(model, accelerator, only_trained=False) == ["b.weight", "c.bias"]
    # Large numbers whose sum would leave the range of the type are finite.
    model["b"].weight.data.fill_(torch.finfo(torch.float16).max if dtype == torch.float16 else 1e30)
    assert non_finite_parameters(model, accelerator) == []
    assert non_finite_parameters(torch.nn.ReLU(), accelerator) == []


@pytest.mark.parametrize(
    ("loss", "grad_norm", "num_overflows", "name"),
    [
        (0.5, 1.0, 0, None),
        (0.5, None, 0, None),  # DeepSpeed may not tell
        (NAN, None, 0, "non_finite_loss"),
        (-INF, INF, 0, "non_finite_loss"),
        (0.5, INF, 0, "non_finite_grad_norm"),
        (0.5, NAN, 0, "non_finite_grad_norm"),
        # In float16 the scaler of the loss begins too high, and leaves such steps out by itself.
        (0.5, INF, 1, None),
        (0.5, INF, 20, None),
        (0.5, INF, 21, "non_finite_grad_norm"),
        (NAN, INF, 1, "non_finite_loss"),
    ],
)
def test_conditions(loss, grad_norm, num_overflows, name):
    found = non_finite_step(7, loss, grad_norm, num_overflows)
    assert (found and found[0]) == name
    if found:
        assert "optimizer step 7" in found[1] and "Lower learning_rate" in found[1]


@pytest.fixture(autouse=True)
def _captured(caplog):
    caplog.set_level(logging.WARNING)
    spare_garbage_collection()
