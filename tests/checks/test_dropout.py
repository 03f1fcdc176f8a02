"""A rollout begins with importance ratios of 1, whatever dropout the model or its adapters were configured with."""

import pytest
import torch
from peft import LoKrConfig, LoraConfig
from transformers import OPTForCausalLM

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.batching.padding import loss_mask
from dapo_trl.checks.model import configured_dropout, disable_dropout
from dapo_trl.train import make_parser

from ..helpers import build, exact_model, tiny_model, train, weights


TARGETS = ["q_proj", "v_proj", "down_proj"]
TWO_ROLLOUTS = {"updates_per_rollout": 2, "max_steps": 4, "learning_rate": 1e-2}


class RatioRecorder(DAPOTrainer):
    """Notes the largest log ratio between the trained and the old policy in each micro-batch, by optimizer step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.log_ratios: list[tuple[int, float]] = []

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self.latest_logps = scores[0].detach()
        return scores

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        log_ratio = (self.latest_logps - inputs["old_per_token_logps"]) * loss_mask(inputs)
        self.log_ratios.append((self.state.global_step, log_ratio.abs().max().item()))
        return loss

    def largest(self, steps: set[int]) -> float:
        return max(log_ratio for step, log_ratio in self.log_ratios if step in steps)


def lora(dropout: float = 0.3, **options) -> LoraConfig:
    return LoraConfig(r=4, lora_dropout=dropout, target_modules=TARGETS, task_type="CAUSAL_LM", **options)


def opt_model(**dropout) -> OPTForCausalLM:
    return exact_model(**dropout).float()


CASES = {
    "LoRA": (lambda: {"peft_config": lora()}, "lora_dropout=0.3"),
    "DoRA": (lambda: {"peft_config": lora(use_dora=True)}, "lora_dropout=0.3"),
    "LoKr": (
        lambda: {"peft_config": LoKrConfig(rank_dropout=0.3, module_dropout=0.2, target_modules=TARGETS)},
        "rank_dropout=0.3, module_dropout=0.2",
    ),
    "attention": (lambda: {"model": tiny_model(attention_dropout=0.3)}, "attention_dropout=0.3"),
    "hidden states": (lambda: {"model": opt_model(dropout=0.2)}, "dropout=0.2"),
    "whole layers": (lambda: {"model": opt_model(layerdrop=0.5)}, "layerdrop=0.5"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rollout_begins_with_ratios_of_one(name, caplog):
    arguments, listed = CASES[name]
    trainer = train(RatioRecorder, TWO_ROLLOUTS, **arguments())
    assert trainer.largest({0, 2}) < 1e-5
    assert trainer.largest({1, 3}) > 1e-3, "the second update of a rollout is not that of the old policy"
    assert f"Dropout is switched off, against {listed}: completions are generated without" in caplog.text


@pytest.mark.parametrize("name", ["LoRA", "attention", "hidden states"])
def test_with_dropout_they_are_not_one_and_the_user_is_told(name, caplog):
    arguments, listed = CASES[name]
    trainer = train(RatioRecorder, TWO_ROLLOUTS | {"disable_dropout": False}, **arguments())
    assert trainer.largest({0, 2}) > 1e-3
    assert f"disable_dropout=False, and the model has dropout ({listed}): completions" in caplog.text
    assert "Set disable_dropout to true" in caplog.text


def test_one_update_per_rollout_trains_the_policy_that_generated():
    """The ratio is 1 by construction there; the gradient must be that of the policy without dropout, too."""
    expected, with_dropout = (train(DAPOTrainer, peft_config=lora(dropout)) for dropout in (0.0, 0.3))
    assert torch.equal(weights(with_dropout.model), weights(expected.model))


def test_the_reference_policy_has_no_dropout_either():
    config = TWO_ROLLOUTS | {"beta": 0.1}
    trainer = train(DAPOTrainer, config, model=tiny_model(attention_dropout=0.3), peft_config=lora())
    kl = [record["kl"] for record in trainer.state.log_history if "kl" in record]
    assert kl[0] < 1e-6 < kl[-1]


def test_nothing_is_said_of_a_model_without_dropout(caplog):
    for is_disabled in (True, False):
        build(DAPOTrainer, {"disable_dropout": is_disabled}, peft_config=lora(0.0))
    assert "dropout" not in caplog.text.lower()


def test_what_is_no_dropout_stays():
    model = tiny_model()
    model.model.layers[0].drops_nothing = True
    model.model.layers[0].pad_dropped = -1
    disable_dropout(model)
    assert model.model.layers[0].drops_nothing is True
    assert model.model.layers[0].pad_dropped == -1
    model.config.classifier_dropout = 0.1  # of a head that a language model does not have
    assert configured_dropout(model) == {}


def test_the_training_command_adds_no_dropout_to_adapters():
    words = ["--dataset_name", "x", "--use_cpu", "true", "--bf16", "false", "--report_to", "none"]
    model_args = make_parser().parse_args_and_config(words)[2]
    assert model_args.lora_dropout == 0.0
    model_args = make_parser().parse_args_and_config([*words, "--lora_dropout", "0.1"])[2]
    assert model_args.lora_dropout == 0.1


def test_noise_on_embeddings_is_refused():
    with pytest.raises(ValueError, match="neftune_noise_alpha=5.0 adds noise .* Set neftune_noise_alpha to null"):
        DAPOConfig(use_cpu=True, bf16=False, report_to="none", neftune_noise_alpha=5.0)
