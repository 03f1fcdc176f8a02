"""DAPOTrainer trains through a real server: weights arrive, requests are few, metrics are sane."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from tests.helpers import char_tokenizer, encode_prompt

from .client import FileClient
from .trainers import build, num_groups, starts_with_a_letter, train_and_compare


MAX_DIFFERENCE = 1e-3
"""Nats between the server's log-probabilities and the trainer's; about 1e-6 is found."""

LORA = {"peft_config": LoraConfig(r=8, lora_alpha=32, target_modules="all-linear"), "learning_rate": 5e-2}
CASES = {"tied": ("tied", {}), "untied": ("untied", {}), "lora": ("tied", LORA)}


@pytest.fixture(scope="module", params=CASES)
def run(request, models):
    """A run of three rollouts: its trainer and the comparison after each sync."""
    name, arguments = CASES[request.param]
    server = request.getfixturevalue("server" if name == "tied" else "untied_server")
    trainer = build(server.url, models[name], **arguments)
    return trainer, train_and_compare(trainer, server.url)


def records(trainer) -> list[dict[str, float]]:
    """What was logged of each rollout."""
    return [record for record in trainer.state.log_history if "dynamic_sampling/rounds" in record]


def test_after_each_sync_the_server_computes_what_the_trainer_does(run, record_property):
    _, comparison = run
    record_property("largest difference in nats", max(comparison.differences))
    print(f"differences {comparison.differences}, moved {comparison.moved}")  # noqa: T201
    assert len(comparison.differences) == 3
    assert comparison.moved[-1] > 0.1
    assert max(comparison.differences) < MAX_DIFFERENCE


def test_groups_are_requests_with_seeds_and_only_rollouts_are_syncs(run):
    trainer, _ = run
    client = trainer.vllm_generation.vllm_client
    rounds = [record["dynamic_sampling/rounds"] for record in records(trainer)]
    assert len(rounds) == 3 and max(rounds) > 1
    assert client.num_syncs == 3
    seeds = [request["generation_kwargs"]["seed"] for request in client.requests]
    assert len(set(seeds)) == len(seeds) == num_groups(records(trainer))


def test_a_request_asks_for_whole_groups(run):
    trainer, _ = run
    for request in trainer.vllm_generation.vllm_client.requests:
        assert request["n"] == 4
        assert len(request["prompts"]) == 1


def test_metrics_of_sampling(run):
    trainer, _ = run
    assert (trainer.vllm_importance_sampling_mode, trainer.vllm_importance_sampling_clip_max) == ("token_truncate", 2)
    for record in records(trainer):
        assert 0 < record["sampling/sampling_logp_difference/mean"] < MAX_DIFFERENCE
        assert record["sampling/sampling_logp_difference/max"] < MAX_DIFFERENCE
        assert record["sampling/importance_sampling_ratio/min"] == pytest.approx(1, abs=MAX_DIFFERENCE)
        assert record["sampling/importance_sampling_ratio/max"] == pytest.approx(1, abs=MAX_DIFFERENCE)
        assert record["sampling/frac_corrected"] == 0


def test_without_the_transfer_server_and_trainer_differ(models, server, monkeypatch):
    """The comparison above fails when weights do not arrive; the metrics tell it too."""
    monkeypatch.setattr(FileClient, "is_sending", False)
    trainer = build(server.url, models["tied"])
    trainer.vllm_generation.score = None  # which would find it before the first request
    comparison = train_and_compare(trainer, server.url)
    assert comparison.differences[-1] > 0.1 > MAX_DIFFERENCE
    assert "the policy that is trained is not the one that generated" in trainer.alarms.message
    last = records(trainer)[-1]
    assert last["sampling/sampling_logp_difference/mean"] > 0.05
    assert 0 < last["sampling/frac_corrected"] < 1
    assert last["sampling/importance_sampling_ratio/max"] == 2  # truncated


def test_completions_end_at_stop_tokens(models, server):
    """The trainer counts them as ends, as the server does."""
    ends, seen = list(range(20, 60)), []

    def remembering(completion_ids, **kwargs):
        seen.extend(completion_ids)
        return starts_with_a_letter(completion_ids)

    fields = {"generation_kwargs": {"stop_token_ids": ends}, "max_steps": 2}
    trainer = build(server.url, models["tied"], reward_funcs=remembering, **fields)
    trainer.train()
    assert set(ends) < set(trainer.eos_token_ids)
    assert not any(set(trainer.eos_token_ids) & set(ids[:-1]) for ids in seen)
    assert any(ids[-1] in ends for ids in seen)
    (record,) = records(trainer)
    num_cut_off = sum(ids[-1] not in trainer.eos_token_ids for ids in seen)
    assert record["completions/clipped_ratio"] == pytest.approx(num_cut_off / len(seen))


def test_evaluation_asks_the_server_with_the_weights_of_the_moment(models, server):
    held_out = ["e0=", "e1=x"]
    trainer = build(
        server.url,
        models["tied"],
        reward_funcs=starts_with_a_letter,
        eval_dataset=Dataset.from_dict({"prompt": held_out}),
        eval_rollouts=1,
        per_device_eval_batch_size=8,
        num_generations_eval=4,
    )
    trainer.train()
    evaluated = [record for record in trainer.state.log_history if "eval_avg@4" in record]
    assert [record["step"] for record in evaluated] == [2, 4, 6]
    for record in evaluated:
        assert 0 <= record["eval_avg@4"] <= 1
    client = trainer.vllm_generation.vllm_client
    prompts = [encode_prompt(text, char_tokenizer()) for text in held_out]
    asked = [request["prompts"] for request in client.requests]
    assert [asked.count([prompt]) for prompt in prompts] == [3, 3]
    # Before the first rollout, and after each: what an evaluation has sent serves the rollout that follows.
    assert client.num_syncs == 4


def test_two_processes_train_as_one_does(models, server, tmp_path):
    """Two trainer processes: one of them talks to the server, both get their share."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
    command += ["tests.real_vllm.two_processes", server.url, models["tied"], str(tmp_path / "result")]
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, timeout=500, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    first, second = (json.loads((tmp_path / f"result{rank}.json").read_text()) for rank in range(2))
    assert first["num_processes"] == second["num_processes"] == 2
    assert first["weights"] == second["weights"]
    assert len(first["differences"]) == 3 and first["moved"][-1] > 0.1
    assert max(first["differences"]) < MAX_DIFFERENCE
    assert first["num_syncs"] == 3
    assert max(first["rounds"]) > 1 and first["num_requests"] == first["num_groups"]
    assert first["requests_of_groups"]
    assert torch.tensor(first["frac_corrected"]).eq(0).all()
