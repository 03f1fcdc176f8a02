"""DeepSpeed ZeRO on two processes trains what one process trains."""

import pytest
import torch

from tests.distributed.killed_worker import LAST_CHECKPOINTS
from tests.distributed.launcher import results_of, torchrun
from tests.distributed.scenarios import SCENARIOS, assert_not_finite, assert_same_run
from tests.distributed.sending import assert_merged
from tests.distributed.zero_runs import trained_with_lora
from tests.helpers import largest_difference


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    directory = tmp_path_factory.mktemp("zero")
    assert torchrun("tests.distributed.killed_worker", "zero3", directory / "killed").returncode != 0
    return results_of("zero_runs", directory)


@pytest.mark.parametrize("stage", ["ZeRO-2", "ZeRO-3"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_same_run_as_one_process(stage, name, together, scenarios_alone):
    assert_same_run(together[stage, name], scenarios_alone[name])


def test_same_run_with_lora(together):
    alone = trained_with_lora()
    untrained = trained_with_lora(learning_rate=0.0)
    assert largest_difference(alone["weights"], untrained["weights"]) > 5e-3
    assert_same_run(together["LoRA"], alone)


@pytest.mark.parametrize("gathers", [True, False])
def test_all_processes_run_the_same_rounds(gathers, together):
    result = together["sampled", gathers]
    first, second = result["drawn_by_process"]
    assert first == second
    assert len(first) > len(result["accepted"])  # more than one round


def test_gathering_for_generation_does_not_matter(together):
    gathered, not_gathered = together["sampled", True], together["sampled", False]
    assert gathered["drawn"] == not_gathered["drawn"]
    assert torch.equal(gathered["weights"], not_gathered["weights"])


def test_resume_in_the_middle_of_a_rollout(together):
    whole, resumed = together["interrupted"]["whole"], together["interrupted"]["resumed"]
    assert resumed["accepted"] == []  # the rollout in use came from the checkpoint
    assert largest_difference(resumed["weights"], whole["weights"]) < 1e-6


def test_resume_after_kill(together):
    assert together["killed"]["checkpoint"] == LAST_CHECKPOINTS["zero3"]
    assert largest_difference(together["killed"]["weights"], together["interrupted"]["whole"]["weights"]) < 1e-6


def test_resume_with_another_number_of_processes_is_an_error(together):
    assert "used a DP world size of 3 but the current world size is 2" in together["of three"]


@pytest.mark.parametrize("stage", ["ZeRO-2", "ZeRO-3"])
def test_what_is_not_finite_on_one_process(stage, together):
    # DeepSpeed takes the step in the backward pass: the run ends before it.
    assert_not_finite(together[stage, "not finite"], is_left_out=False)


def test_adapters_reach_a_vllm_server_merged(together):
    assert "model.embed_tokens.weight" in together["sent"]["sent"]
    assert_merged(together["sent"])
