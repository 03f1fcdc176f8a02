"""
What `DAPOTrainer` relies on inside TRL and transformers: fails when a release changes it.

Everything here is asked of `GRPOTrainer` itself. When a test fails after an update, the code that relies on what it
checks must be read again before the pin in `setup.cfg` moves. What `dapo_trl.generation.vllm` relies on stands in
`test_vllm_contract.py`.
"""

import configparser
import inspect
from collections import defaultdict, deque
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import utils

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.metrics import EXTREMES, TOKEN_MEANS
from tests.helpers import ScriptedRollouts, build, correct, tiny_model, train


PARAMETERS = {
    "__init__": "self model reward_funcs args train_dataset eval_dataset processing_class reward_processing_classes "
    "callbacks optimizers quantization_config peft_config tools rollout_func environment_factory",
    "_prepare_inputs": "self generation_batch",
    "_generate_and_score_completions": "self inputs",
    "_generate": "self prompts",
    "_calculate_rewards": "self inputs prompts completions completion_ids_list",
    "_get_per_token_logps_and_entropies": "self model input_ids attention_mask logits_to_keep batch_size "
    "compute_entropy compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes "
    "num_tiles image_sizes token_type_ids mm_token_type_ids image_position_ids",
    "_compute_loss": "self model inputs",
    "train": "self resume_from_checkpoint trial ignore_keys_for_eval",
    "_run_epoch": "self model epoch train_dataloader steps_in_epoch num_update_steps_per_epoch trial "
    "ignore_keys_for_eval start_time resume_from_checkpoint epochs_trained steps_trained_in_current_epoch",
    "evaluation_loop": "self dataloader description prediction_loss_only ignore_keys metric_key_prefix",
    "_load_rng_state": "self checkpoint",
    "_save": "self output_dir state_dict",
    "_save_checkpoint": "self model trial",
    "init_hf_repo": "self token",
    "_finish_current_push": "self",
    "create_model_card": "self model_name dataset_name tags",
    "push_to_hub": "self commit_message blocking token revision kwargs",
    "_remove_unused_columns": "self dataset description",
}
"""Parameters of the methods that are overridden or called."""

SEVERAL_UPDATES = {"steps_per_generation": 6, "max_steps": 3}
BATCH = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"}
LENGTHS = {f"completions/{x}_{y}" for x in ("mean", "min", "max") for y in ("length", "terminated_length")}


@pytest.fixture
def calls(monkeypatch):
    """Results of GRPOTrainer's methods, by name, in the order of the calls."""
    recorded = defaultdict(list)

    def spy_on(name):
        method = getattr(GRPOTrainer, name)

        def spy(self, *args, **kwargs):
            result = method(self, *args, **kwargs)
            recorded[name].append(result)
            return result

        monkeypatch.setattr(GRPOTrainer, name, spy)

    for name in ("_generate_and_score_completions", "_generate", "_calculate_rewards"):
        spy_on(name)
    return recorded


def test_pinned_version():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    requirements = setup["options"]["install_requires"].split()
    assert f"trl=={version('trl')}" in requirements


PASSED_ON = {"init_hf_repo": ["private"], "push_to_hub": ["private"]}
"""Parameters that newer releases of Transformers have, and that `DAPOTrainer` hands to the parent where they exist."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
    assert [parameter for parameter in found if parameter not in PASSED_ON.get(name, [])] == PARAMETERS[name].split()


def test_every_overridden_method_is_checked():
    ours = [cls for cls in DAPOTrainer.__mro__ if cls not in GRPOTrainer.__mro__]
    methods = {name for cls in ours for name, value in vars(cls).items() if inspect.isfunction(value)}
    overridden = {name for name in methods if hasattr(GRPOTrainer, name)}
    assert overridden <= PARAMETERS.keys()
    assert {name for name in overridden - {"__init__"} if f"`{name}`" not in DAPOTrainer.__doc__} == set()


def test_names_of_ours_are_free():
    """No attribute that DAPOTrainer sets for itself is one of TRL's."""
    grpo, dapo = vars(build(GRPOTrainer)), vars(build(DAPOTrainer))
    own = dapo.keys() - grpo.keys()
    assert {"batcher", "sampler", "monitor"} <= own
    assert not [name for name in own if hasattr(GRPOTrainer, name)]


def test_generate(calls):
    train(GRPOTrainer, {"max_steps": 1}, rollout_func=ScriptedRollouts(has_logprobs=True, has_env_mask=True))
    (result,) = calls["_generate"]
    prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images = result
    for rows, element in ((prompt_ids, int), (completion_ids, int), (tool_mask, int), (logprobs, float)):
        assert len(rows) == 8 and all(type(value) is element for row in rows for value in row)
    assert all(isinstance(completion, str) for completion in completions)
    assert (extra_fields, images, tool_images) == ({}, None, [])


def test_generate_with_the_model(calls):
    train(GRPOTrainer, {"max_steps": 1}, rollout_func=None)
    _, completion_ids, tool_mask, _, logprobs, extra_fields, images, tool_images = calls["_generate"][0]
    assert all(type(token) is int for row in completion_ids for token in row)
    assert (tool_mask, logprobs, extra_fields, images, tool_images) == (None, None, {}, None, [])


def test_calculate_rewards(calls):
    def missing(completion_ids, **kwargs):
        return [None] * len(completion_ids)

    train(GRPOTrainer, {"max_steps": 1}, reward_funcs=[correct, missing])
    (rewards,) = calls["_calculate_rewards"]
    assert rewards.shape == (8, 2) and rewards.dtype == torch.float32
    assert set(rewards[:, 0].tolist()) == {1.0, -1.0} and rewards[:, 1].isnan().all()


def test_rows_without_any_reward_have_no_advantage(calls):
    """What a padding row is: it leaves the rows of its group as they are."""

    def first_half(completion_ids, **kwargs):
        return [reward if i % 4 < 2 else None for i, reward in enumerate(correct(completion_ids))]

    train(GRPOTrainer, {"max_steps": 1}, reward_funcs=first_half)
    rewards = calls["_calculate_rewards"][0].view(-1, 4)[:, :2]
    advantages = calls["_generate_and_score_completions"][0]["advantages"].view(-1, 4)
    expected = (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True) + 1e-4)
    torch.testing.assert_close(advantages[:, :2], expected)
    assert (advantages[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("config", "rollouts", "more_keys"),
    [
        ({}, {}, set()),
        (SEVERAL_UPDATES, {}, {"old_per_token_logps"}),
        ({"num_iterations": 2}, {}, {"old_per_token_logps"}),
        ({}, {"has_logprobs": True}, {"sampling_per_token_logps"}),
        ({}, {"has_env_mask": True}, {"tool_mask"}),
        ({"mask_truncated_completions": True}, {"frac_truncated": 0.5}, set()),
    ],
)
def test_scored_batch(config, rollouts, more_keys, calls):
    train(GRPOTrainer, {"max_steps": 1, **config}, rollout_func=ScriptedRollouts(**rollouts))
    batch = calls["_generate_and_score_completions"][0]
    prompt_ids, completion_ids = calls["_generate"][0][:2]
    assert batch.keys() == BATCH | more_keys
    num_rows = len(prompt_ids)
    assert batch["num_items_in_batch"].shape == () and batch["advantages"].shape == (num_rows,)
    for name in batch.keys() - {"num_items_in_batch", "advantages"}:
        longest = prompt_ids if name.startswith("prompt_") else completion_ids
        assert batch[name].shape == (num_rows, max(map(len, longest))), name
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    assert batch["num_items_in_batch"] == mask.sum()
    for row, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        # Prompts are padded on the left, completions on the right.
        assert batch["prompt_ids"][row, -len(prompt) :].tolist() == prompt
        assert batch["prompt_mask"][row].flip(0).tolist()[: len(prompt)] == [1] * len(prompt)
        assert batch["prompt_mask"][row].sum() == len(prompt)
        assert batch["completion_ids"][row, : len(completion)].tolist() == completion
        is_masked = "mask_truncated_completions" in config and completion[-1] != 1
        assert batch["completion_mask"][row].sum() == (0 if is_masked else len(completion))


def test_one_generation_and_one_scoring_per_rollout(calls):
    """The parent's scoring calls `self._generate` and `self._calculate_rewards` once each."""
    trainer = train(GRPOTrainer, {**SEVERAL_UPDATES, "num_iterations": 2, "max_steps": 12})
    assert {name: len(results) for name, results in calls.items()} == dict.fromkeys(calls, 2)
    assert len(calls) == 3
    assert trainer._step == 24 and len(trainer._buffered_inputs) == 6
    assert all(len(batch["advantages"]) == 4 for batch in trainer._buffered_inputs)


def test_shuffle_of_rows():
    torch.manual_seed(3)
    shuffled = utils.shuffle_sequence_dict({"row": torch.arange(9)})["row"]
    torch.manual_seed(3)
    assert shuffled.tolist() == torch.randperm(9).tolist()


def scored_trainer(config: dict) -> tuple[GRPOTrainer, dict]:
    """A trainer in training mode, and 4 rows that the present policy has generated: every ratio is 1."""
    trainer = train(GRPOTrainer, {**SEVERAL_UPDATES, **config})
    trainer.model.train()
    trainer._metrics["train"].clear()
    batch = dict(trainer._buffered_inputs[0])
    del batch["old_per_token_logps"]
    batch["advantages"] = torch.tensor([1.5, -0.5, -0.5, 2.0])
    return trainer, batch


@pytest.mark.parametrize("loss_type", ["dapo", "cispo"])
def test_normalizer_of_token_losses(loss_type):
    trainer, batch = scored_trainer({"loss_type": loss_type, "epsilon_high": 0.28})
    batch["num_items_in_batch"] = torch.tensor(70)
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model, batch)
        assert trainer.current_gradient_accumulation_steps == 2
        # 70 tokens in a rollout of 3 optimizer steps: 70 / 3 tokens per step.
        token_loss = -batch["advantages"]
        if loss_type == "cispo":
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            logprobs = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, batch["completion_ids"].size(1)
            )[0]
            row_sums = (0.28 * logprobs * batch["completion_mask"]).sum(dim=1) * token_loss
        else:
            row_sums = batch["completion_mask"].sum(dim=1) * token_loss
        torch.testing.assert_close(loss, row_sums.sum() / (70 / 3))
        # Weights of rows may ride on the advantages.
        batch["advantages"] = batch["advantages"] * torch.tensor([0.5, 0.0, 2.0, 1.0])
        weighted = trainer._compute_loss(trainer.model, batch)
        torch.testing.assert_close(weighted, (row_sums * torch.tensor([0.5, 0.0, 2.0, 1.0])).sum() / (70 / 3))


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo"])
def test_mean_of_row_losses(loss_type):
    trainer, batch = scored_trainer({"loss_type": loss_type})
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model, batch)
    lengths = batch["completion_mask"].sum(dim=1)
    per_row = -batch["advantages"] * (1 if loss_type == "grpo" else lengths / trainer.max_completion_length)
    torch.testing.assert_close(loss, per_row.mean() / 2)


@pytest.mark.parametrize("loss_type", ["dapo", "cispo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_metrics_of_the_loss(loss_type, beta, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    model.config._name_or_path = str(tmp_path)
    trainer = train(GRPOTrainer, {**SEVERAL_UPDATES, "loss_type": loss_type, "beta": beta}, model=model)
    trainer.model.train()
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, trainer._buffered_inputs[0])
    recorded = trainer._metrics["train"]
    assert recorded.keys() <= {*TOKEN_MEANS, *EXTREMES}, "a metric that is not weighted by tokens"
    assert ("kl" in recorded) == (beta != 0)
    assert all(len(values) == 1 for values in recorded.values())


def test_metrics_and_logs(monkeypatch):
    recorded = []
    log = GRPOTrainer.log

    def record(self, *args, **kwargs):
        recorded.append({name: list(values) for name, values in self._metrics["train"].items()})
        log(self, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "log", record)

    def logging(completion_ids, number, log_extra, log_metric, **kwargs):
        log_extra("number", number)
        log_metric("mean_number", 1.0)
        assert trainer._pending_extra_logs["number"] == number
        assert trainer._pending_metrics["mean_number"] == [1.0]
        return correct(completion_ids)

    trainer = build(GRPOTrainer, {"max_steps": 1}, reward_funcs=logging)
    trainer.train()
    metrics = recorded[0]
    assert trainer._pending_extra_logs == trainer._pending_metrics == {}
    assert LENGTHS | {"completions/clipped_ratio", "mean_number", "num_tokens"} <= metrics.keys()
    rewards = {"rewards/logging/mean", "rewards/logging/std", "reward", "reward_std", "frac_reward_zero_std"}
    assert rewards <= metrics.keys()
    assert all(len(metrics[name]) == 1 for name in rewards | LENGTHS)

    logs = trainer._logs
    assert logs.keys() == {"images", "prompt", "completion", "rewards", "advantages", "extra"}
    columns = [logs["prompt"], logs["completion"], logs["rewards"]["logging"], logs["advantages"]]
    for column in (*columns, logs["extra"]["number"]):
        assert isinstance(column, deque) and len(column) == 8


def test_log_takes_the_means_of_the_metrics():
    trainer = build(GRPOTrainer)
    trainer.model.train()
    trainer._metrics["train"]["a"] = [1.0, float("nan"), 3.0]
    trainer.log({})
    assert trainer.state.log_history[-1]["a"] == 2.0
    assert not trainer._metrics["train"]


def test_hooks_of_checkpoints(monkeypatch):
    """The random state is written before the trainer's state, which comes last; and it is read on resume."""
    events = []

    def spy(cls, name, seen):
        method = getattr(cls, name)

        def hook(self, *args, **kwargs):
            events.append((name, *seen(*args, **kwargs)))
            return method(self, *args, **kwargs)

        monkeypatch.setattr(cls, name, hook)

    def directory(path):
        return Path(path).name, (Path(path) / "trainer_state.json").exists()

    spy(Trainer, "_save_rng_state", directory)
    spy(Trainer, "_load_rng_state", lambda path: directory(path) if path else (None,))
    spy(Trainer, "_run_epoch", lambda **kwargs: ())
    spy(GRPOTrainer, "_save_checkpoint", lambda model, trial: ())
    trainer = train(GRPOTrainer, {"save_strategy": "steps", "save_steps": 2, "max_steps": 2})
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-2"
    save = [("_save_checkpoint",), ("_save_rng_state", "checkpoint-2", False)]
    assert [event for event in events if event[0] != "_load_rng_state"] == [("_run_epoch",), *save]

    events.clear()
    resumed = build(GRPOTrainer, {"max_steps": 4})
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert events.index(("_run_epoch",)) < events.index(("_load_rng_state", "checkpoint-2", True))
    assert resumed.state.global_step == 4


def test_fields_of_the_configuration():
    config = GRPOConfig("unused", use_cpu=True, bf16=False, per_device_train_batch_size=8, num_generations=4)
    # What DAPOConfig documents as different; the loss is the same.
    assert (config.epsilon, config.epsilon_high, config.loss_type) == (0.2, None, "dapo")
    assert config.vllm_importance_sampling_mode == "sequence_mask"
    assert config.steps_per_generation == config.gradient_accumulation_steps == 1
    assert config.generation_batch_size == 8
