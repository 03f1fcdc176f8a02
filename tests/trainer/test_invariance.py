"""The same weights however an optimizer step is cut: into micro-batches, balanced or not, or over processes."""

import pytest
from trl import GRPOTrainer

from dapo_trl import DAPOTrainer
from tests.helpers import ScriptedRollouts, exact_model, largest_difference, tiny_model, train, weights


# 8 rows per optimizer step in all of them.
CUTS = {
    "4x2 unbalanced": {"balance_micro_batches": False},
    "1x8 unbalanced": {
        "balance_micro_batches": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
    },
    "4x2 balanced": {},
    "2x4 balanced": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "8x1 balanced": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
}
PARTIAL = {"max_rounds": 1, "max_oversampling": 1.0}
LARGE_STEPS = {"optim": "sgd", "learning_rate": 1.0, "updates_per_rollout": 3}


def of_loss(loss_type: str) -> dict:
    # For cispo the upper bound is one of the ratio itself.
    return {"loss_type": loss_type} | ({"epsilon_high": 1.3} if loss_type == "cispo" else {})


def trained_weights(config: dict, rollouts: dict | None = None, make_model=exact_model, cls=DAPOTrainer):
    trainer = train(cls, config, model=make_model(), rollout_func=ScriptedRollouts(**rollouts or {}))
    return weights(trainer.model)


def assert_equal_for_all_cuts(config: dict, rollouts: dict | None = None, cuts: dict = CUTS, **arguments) -> None:
    trained = {name: trained_weights(LARGE_STEPS | config | cut, rollouts, **arguments) for name, cut in cuts.items()}
    first, *others = trained
    start = weights(arguments.get("make_model", exact_model)())
    assert largest_difference(trained[first], start) > 0.01
    differences = {name: largest_difference(trained[first], trained[name]) for name in others}
    assert max(differences.values()) < 1e-6, differences


@pytest.mark.parametrize("shortage", [{}, PARTIAL], ids=["full", "partial"])
@pytest.mark.parametrize("loss_type", ["dapo", "cispo", "grpo", "dr_grpo"])
def test_loss_types(loss_type, shortage):
    assert_equal_for_all_cuts({**of_loss(loss_type), **shortage})


@pytest.mark.parametrize(
    ("config", "rollouts"),
    [
        pytest.param({"token_normalization": "group"}, {}, id="group"),
        pytest.param({"token_normalization": "group", **PARTIAL}, {}, id="group-partial"),
        pytest.param({"num_iterations": 2}, {}, id="num_iterations"),
        pytest.param({"optim": "adamw_torch", "learning_rate": 5e-3, "adam_epsilon": 1e-4}, {}, id="adamw"),
        pytest.param({"delta": 1.5}, {}, id="delta"),
        pytest.param({"importance_sampling_level": "sequence"}, {}, id="sequence-level"),
        pytest.param({"pad_to_multiple_of": 8}, {}, id="pad_to_multiple_of"),
        pytest.param({}, {"max_tokens": 2, "min_tokens": 1}, id="one-token"),
        pytest.param({}, {"has_env_mask": True}, id="env_mask"),
        pytest.param({"token_normalization": "group"}, {"has_env_mask": True}, id="env_mask-group"),
        pytest.param({"off_policy_mask_threshold": 0.2}, {"has_logprobs": True}, id="sampling-logprobs"),
        pytest.param({"mask_truncated_completions": True}, {"frac_truncated": 0.5}, id="masked"),
        pytest.param({"soft_punish_cache": 12}, {}, id="soft-overlong"),
    ],
)
def test_options(config, rollouts):
    cuts = {name: CUTS[name] for name in ("4x2 unbalanced", "1x8 unbalanced", "2x4 balanced")}
    assert_equal_for_all_cuts(config, rollouts, cuts)


@pytest.fixture
def saved_model(tmp_path):
    """A model that TRL can load a second time, as the reference policy of the KL term."""

    def make():
        model = exact_model()
        model.save_pretrained(tmp_path)
        model.config._name_or_path = str(tmp_path)
        return model

    return make


def test_kl_term(saved_model):
    cuts = {name: CUTS[name] for name in ("4x2 unbalanced", "1x8 unbalanced", "2x4 balanced")}
    assert_equal_for_all_cuts({"beta": 0.1}, cuts=cuts, make_model=saved_model)


def test_one_micro_batch_for_each_row():
    # More micro-batches than a partial rollout has rows: some hold nothing but padding rows.
    cuts = {
        "all at once": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
        "one by one": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        "one by one, unbalanced": CUTS["1x8 unbalanced"],
    }
    assert_equal_for_all_cuts({"num_generations": 8, **PARTIAL}, cuts=cuts)


@pytest.mark.parametrize("loss_type", ["dapo", "cispo", "grpo", "dr_grpo"])
def test_balanced_without_dynamic_sampling(loss_type):
    # TRL deals the rows by the global random state, which the forward passes of OPT advance.
    config = {"dynamic_sampling": False, **of_loss(loss_type), "learning_rate": 0.3}
    assert_equal_for_all_cuts(config, make_model=tiny_model)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_balanced_equals_grpo_trainer(loss_type):
    config = LARGE_STEPS | {"updates_per_rollout": 1, "loss_type": loss_type}
    balanced = trained_weights(config | {"dynamic_sampling": False})
    del config["updates_per_rollout"]
    grpo = trained_weights(config | {"epsilon_high": 0.28}, cls=GRPOTrainer)
    assert largest_difference(balanced, grpo) < 1e-6


def test_options_matter(saved_model):
    """Each option of the tests above changes the weights: otherwise its test would show nothing."""

    def difference(config, rollouts=None, than=None):
        return largest_difference(
            trained_weights(LARGE_STEPS | (than or {}), rollouts, saved_model),
            trained_weights(LARGE_STEPS | config, rollouts, saved_model),
        )

    for config in (
        {"beta": 0.1},
        {"delta": 1.5},
        {"token_normalization": "group"},
        {"soft_punish_cache": 12},
        PARTIAL,
    ):
        assert difference(config) > 1e-4, config
    assert difference({"mask_truncated_completions": True}, {"frac_truncated": 0.5}) > 1e-4
    assert difference({"off_policy_mask_threshold": 0.2}, {"has_logprobs": True}) > 1e-4
    masked, not_masked = (trained_weights(LARGE_STEPS, {"has_env_mask": has_mask}) for has_mask in (True, False))
    assert largest_difference(masked, not_masked) > 1e-4
