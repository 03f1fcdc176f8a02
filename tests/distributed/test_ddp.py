"""DDP on two processes: same run as one process, same rounds on both, resumable by any number."""

from pathlib import Path

import pytest

from dapo_trl.monitoring import read_metrics
from dapo_trl.run.checkpoint import last_complete_checkpoint
from tests.distributed.ddp_runs import OF_DDP
from tests.distributed.killed_worker import LAST_CHECKPOINTS
from tests.distributed.launcher import results_of, torchrun
from tests.distributed.scenarios import RESUMED, assert_not_finite, assert_same_run, trained
from tests.helpers import ScriptedRollouts, is_correct, largest_difference, prompt_dataset


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where both numbers of processes leave checkpoints."""
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def alone(directory):
    """The run that is interrupted in the middle of its second rollout."""
    saving = {"save_strategy": "steps", "save_steps": 3, "output_dir": str(directory / "alone")}
    return trained(RESUMED | saving)


@pytest.fixture(scope="module")
def together(directory, alone):
    assert torchrun("tests.distributed.killed_worker", "ddp", directory / "killed").returncode != 0
    return results_of("ddp_runs", directory)


@pytest.mark.parametrize("name", OF_DDP)
def test_same_run_as_one_process(name, together, scenarios_alone):
    assert_same_run(together[name], scenarios_alone[name])


# Rounds


def test_all_processes_run_the_same_rounds(together):
    """DDP would go on with whatever collectives happen to meet."""
    result = together["sampled"]
    first, second = result["drawn_by_process"]
    assert first == second
    assert len(first) > len(result["accepted"])  # more than one round


def test_disagreement_ends_the_run_on_all_processes(together):
    for process in together["disagreeing"]:
        assert "Processes disagree on {'prompts': [" in process["error"]
        assert process["seconds"] < 10


def test_an_unusable_reward_of_one_process_ends_all_with_a_checkpoint(together, directory):
    first, second = together["infinite"]
    # 8 rows of 2 processes: the first row of the second one is row 4.
    assert "The reward function 'text' returned '1.0' for row 4 of 8 completions, prompt 'p" in first["error"]
    assert first["error"] == second["error"]
    assert Path(last_complete_checkpoint(str(directory / "infinite"))).name == "checkpoint-1"


# Alarms, evaluation


def test_an_alarm_of_one_process_ends_all(together):
    first, second = together["alarm"]
    assert first["steps"] == second["steps"] == 4


def test_what_is_not_finite_on_one_process(together):
    assert_not_finite(together["not finite"], is_left_out=True)


def test_one_process_writes_what_all_have_evaluated(together, directory):
    records = read_metrics(directory / "alarm")
    assert [record["step"] for record in records] == [2, 2, 4, 4, 4]  # rollout and evaluation, twice; the summary
    evaluations = [record["eval_avg@4"] for record in records if "eval_avg@4" in record]
    assert together["alarm"][0]["evaluations"] == together["alarm"][1]["evaluations"] == evaluations
    prompts = prompt_dataset(5)["prompt"]
    for step, evaluation in zip((2, 4), evaluations, strict=True):
        completions = [ScriptedRollouts().completion(prompt, i, step) for prompt in prompts for i in range(4)]
        assert evaluation == pytest.approx(sum(map(is_correct, completions)) / 20)
    # Each problem once, although the second process repeats one: rewards are 1 and -1.
    rewards = [record["eval_reward"] for record in records if "eval_reward" in record]
    assert rewards == pytest.approx([2 * evaluation - 1 for evaluation in evaluations])


# Resume


def test_resume_in_the_middle_of_a_rollout(together):
    whole, resumed = together["interrupted"]["whole"], together["interrupted"]["resumed"]
    assert resumed["accepted"] == []  # the rollout in use came from the checkpoint
    assert largest_difference(resumed["weights"], whole["weights"]) < 1e-6


def test_resume_after_kill(together):
    assert together["killed"]["checkpoint"] == LAST_CHECKPOINTS["ddp"]
    assert largest_difference(together["killed"]["weights"], together["interrupted"]["whole"]["weights"]) < 1e-6


def assert_goes_on(resumed: dict, whole: dict) -> None:
    assert len(resumed["accepted"]) == 1
    assert resumed["accepted"] == whole["accepted"][-1:]
    assert resumed["drawn"] == whole["drawn"][-len(resumed["drawn"]) :]
    assert largest_difference(resumed["weights"], whole["weights"]) < 1e-5


def test_resume_with_more_processes(together, alone):
    assert_same_run(together["whole"], alone)
    assert_goes_on(together["resumed from one"], alone)


@pytest.mark.parametrize("num_micro_batches", [2, 4])
def test_resume_with_fewer_processes_and_other_batches(num_micro_batches, together, alone, directory):
    config = RESUMED | {"gradient_accumulation_steps": num_micro_batches}
    assert_goes_on(trained(config, checkpoint=f"{directory}/together/checkpoint-3"), alone)


def test_processes_that_resume_from_different_checkpoints_disagree(together):
    for process in together["other checkpoints"]:
        assert "Processes disagree on {'global_step': [3, 2]" in process["error"]
