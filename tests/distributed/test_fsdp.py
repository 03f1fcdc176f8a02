"""FSDP2 on two processes trains what one process trains."""

import pytest

from tests.distributed.fsdp_runs import OF_FSDP
from tests.distributed.launcher import results_of
from tests.distributed.scenarios import assert_not_finite, assert_same_run
from tests.distributed.sending import assert_merged
from tests.helpers import largest_difference


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return results_of("fsdp_runs", tmp_path_factory.mktemp("fsdp"))


@pytest.mark.parametrize("name", OF_FSDP)
def test_same_run_as_one_process(name, together, scenarios_alone):
    assert_same_run(together[name], scenarios_alone[name])


def test_all_processes_run_the_same_rounds(together):
    result = together["interrupted"]["whole"]
    first, second = result["drawn_by_process"]
    assert first == second
    assert len(first) > len(result["accepted"])  # more than one round


def test_resume_in_the_middle_of_a_rollout(together):
    whole, resumed = together["interrupted"]["whole"], together["interrupted"]["resumed"]
    assert resumed["accepted"] == []  # the rollout in use came from the checkpoint
    assert largest_difference(resumed["weights"], whole["weights"]) < 1e-6


def test_what_is_not_finite_on_one_process(together):
    assert_not_finite(together["not finite"], is_left_out=True)


def test_adapters_reach_a_vllm_server_merged(together):
    assert "model.embed_tokens.weight" in together["sent"]["sent"]
    assert_merged(together["sent"])
