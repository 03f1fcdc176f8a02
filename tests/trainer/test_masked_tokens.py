"""Tokens that are not trained on: no exponential of theirs reaches the loss, however large or undefined it is."""

import pytest
import torch
from datasets import Dataset

from dapo_trl import DAPOTrainer
from dapo_trl.batching.padding import loss_mask
from tests.helpers import ScriptedRollouts, largest_difference, tiny_model, train, weights


# Sampling log-probabilities, those of the policy that generated, and those of the reference policy.
ALL_LOGPS = {
    "beta": 0.1,
    "updates_per_rollout": 2,
    "off_policy_mask_threshold": 5.0,
    "mask_truncated_completions": True,
    "max_steps": 4,
}


@pytest.fixture
def saved_model(tmp_path):
    """A model that TRL can load a second time as the reference; logits as far apart as those of real models."""
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.mul_(60)
    model.save_pretrained(tmp_path)
    return str(tmp_path)


def train_with(value: float | None, model: str, config: dict) -> DAPOTrainer:
    """Trains with this in place of all stored log-probabilities of masked tokens, or with what stands there."""

    class Corrupted(DAPOTrainer):
        def _prepare_inputs(self, *args):
            batch = super()._prepare_inputs(*args)
            is_masked = ~loss_mask(batch).bool()
            names = [name for name in batch if name.endswith("_per_token_logps")]
            assert len(names) == 3 and is_masked.any()
            if value is not None:
                for name in names:
                    batch[name] = batch[name].masked_fill(is_masked, value)
            return batch

    rollouts = ScriptedRollouts(has_env_mask=True, has_logprobs=True, frac_truncated=0.3)
    return train(Corrupted, ALL_LOGPS | config, model=model, rollout_func=rollouts)


@pytest.mark.parametrize("config", [{}, {"loss_type": "grpo", "on_shortage": "raise"}, {"delta": 2.0}], ids=str)
def test_whatever_is_stored_for_them_the_weights_are_the_same(config, saved_model):
    expected = weights(train_with(None, saved_model, config).model)
    assert expected.isfinite().all()
    assert largest_difference(expected, weights(type(tiny_model()).from_pretrained(saved_model))) > 1e-4
    for value in (1000.0, -1000.0, float("inf"), float("nan")):
        assert torch.equal(weights(train_with(value, saved_model, config).model), expected), value


def test_surprising_prompts_whose_end_is_moved(saved_model):
    prompts = [f"q{i:02}" + ("" if i % 2 else "abcdefghijklmnopqrstuvwxyz0123456789") + "?" for i in range(40)]
    lowest, num_moved = [], []

    class Recording(DAPOTrainer):
        def _prepare_inputs(self, *args):
            batch = super()._prepare_inputs(*args)
            num_moved.append("tool_mask" in batch)
            return batch

        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            lowest.append(scores[0].min().item())
            return scores

    def trained(config: dict) -> torch.Tensor:
        settings = {"beta": 0.01, "temperature": 0.2, "optim": "sgd", "max_steps": 2, "per_device_train_batch_size": 8}
        dataset = Dataset.from_dict({"prompt": prompts})
        return weights(train(Recording, settings | config, model=saved_model, train_dataset=dataset).model)

    balanced = trained({})
    # exp(89) is above the largest float32.
    assert any(num_moved) and min(lowest) < -89
    start = weights(type(tiny_model()).from_pretrained(saved_model))
    in_order = trained({"balance_micro_batches": False})
    assert largest_difference(balanced, start) > 1e-4
    assert largest_difference(balanced, in_order) < 0.01 * largest_difference(balanced, start)
