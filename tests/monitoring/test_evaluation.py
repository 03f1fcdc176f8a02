"""avg@k during training: what it is, and that training does not notice."""

import math
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.monitoring import read_metrics
from dapo_trl.monitoring.evaluation import EvaluationRecord, accuracy_metrics
from dapo_trl.monitoring.filter_rewards import FilterRewards
from tests.helpers import build, correct, is_correct, prompt_dataset, train, weights


NAN = math.nan

# avg@k


def test_average_over_problems():
    metrics = accuracy_metrics(torch.tensor([[1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -1.0]]))
    assert metrics["avg@4"] == 0.5  # 1/4 and 3/4
    # Two problems say nothing: of the t distribution with one degree of freedom 2.5% lie above 12.7.
    assert (metrics["avg@4_low"], metrics["avg@4_high"]) == pytest.approx((0, 1))
    assert metrics["num_unscorable"] == 0


def recorded(batches: list[list[float]], k: int, num_problems: int | None = None) -> dict[str, float]:
    """Metrics of an evaluation with one reward function."""
    args = DAPOConfig(tempfile.mkdtemp(), use_cpu=True, bf16=False, per_device_eval_batch_size=2 * k)
    args.num_generations_eval = k
    weights = torch.ones(1)
    evaluation = EvaluationRecord(args, FilterRewards(args, [0], ["correct"], weights), weights)
    for batch in batches:
        evaluation.add(torch.tensor(batch).view(-1, 1))
    lengths = {"completions/mean_length": [1.0] * len(batches)}
    return evaluation.finish(lengths, num_problems, prefix="eval")


def test_a_group_may_straddle_two_batches():
    assert recorded([[1.0, -1.0, -1.0, -1.0, 1.0, 1.0], [1.0, -1.0]], k=4)["avg@4"] == 0.5


def test_repetitions_that_fill_the_last_batch_do_not_count():
    assert recorded([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]], k=2, num_problems=2)["avg@2"] == 0.5


def test_problems_that_cannot_be_scored_are_left_out():
    metrics = accuracy_metrics(torch.tensor([[1.0, NAN], [1.0, -1.0]]))
    assert metrics == {"avg@2": 0.5, "num_unscorable": 1.0}  # no interval of a single problem
    assert accuracy_metrics(torch.tensor([[NAN]])) == {"num_unscorable": 1.0}
    assert recorded([], k=1) == {}


# In a run

RUN = {"updates_per_rollout": 2, "max_steps": 4, "logging_steps": None, "max_completion_length": 8}
EVALUATED = {"eval_rollouts": 1, "per_device_eval_batch_size": 6, "num_generations_eval": 3}


def starts_low(completion_ids, **kwargs):
    """A reward that a random model gets right half of the time."""
    return [1.0 if ids[0] < 64 else -1.0 for ids in completion_ids]


def evaluations(trainer) -> list[dict]:
    return [record for record in read_metrics(trainer.args.output_dir) if any("eval_" in name for name in record)]


@pytest.mark.parametrize(
    "config",
    [{}, {"dynamic_sampling": False}, {"balance_micro_batches": False}, {"num_iterations": 2, "max_steps": 8}],
    ids=["default", "all groups", "equal rows", "iterations"],
)
def test_training_does_not_notice(config):
    """The model generates, so that evaluation draws random numbers; the second rollout follows an evaluation."""
    arguments = {"rollout_func": None, "reward_funcs": starts_low}
    without = train(DAPOTrainer, {**RUN, **config}, **arguments)
    evaluated = train(DAPOTrainer, {**RUN, **config, **EVALUATED}, eval_dataset=prompt_dataset(4), **arguments)
    assert len(evaluations(evaluated)) == 2
    assert torch.equal(weights(evaluated.model), weights(without.model))


def test_what_is_evaluated():
    completions = []

    def remembered(completion_ids, prompts, **kwargs):
        if not trainer.model.training:
            completions.extend(zip(prompts, completion_ids, strict=True))
        return correct(completion_ids)

    trainer = build(
        DAPOTrainer, {**RUN, **EVALUATED, "max_steps": 2}, eval_dataset=prompt_dataset(5), reward_funcs=remembered
    )
    trainer.train()
    assert len(completions) == 15
    assert sorted({prompt for prompt, _ in completions}) == sorted(prompt_dataset(5)["prompt"])
    (record,) = evaluations(trainer)
    share = sum(is_correct(ids) for _, ids in completions) / 15
    assert record["eval_avg@3"] == pytest.approx(share)
    assert 0 < record["eval_avg@3_low"] <= share <= record["eval_avg@3_high"] < 1


def test_rewards_and_lengths_of_uneven_batches():
    """Five problems of two completions in batches of four rows: the last batch has two, and no more weight."""
    returned, lengths = [], []

    def counts(completion_ids, **kwargs):
        if not trainer.model.training:
            lengths.extend(map(len, completion_ids))
            returned.append([float(number) for number in range(len(completion_ids))])
            return returned[-1]
        return correct(completion_ids)

    config = RUN | EVALUATED | {"per_device_eval_batch_size": 4, "num_generations_eval": 2, "max_steps": 2}
    arguments = {"eval_dataset": prompt_dataset(5), "reward_funcs": counts}
    trainer = build(DAPOTrainer, config, **arguments)
    trainer.train()
    (record,) = evaluations(trainer)
    assert returned == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    values = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]  # the mean of the means of batches is 1.167
    assert record["eval_reward"] == record["eval_rewards/counts/mean"] == pytest.approx(1.3)
    assert record["eval_reward_std"] == pytest.approx(stdev(values))
    assert record["eval_frac_reward_zero_std"] == 0
    assert record["eval_completions/mean_length"] == pytest.approx(fmean(lengths))
    assert record["eval_completions/max_length"] == max(lengths)
    assert record["eval_completions/min_length"] == min(lengths)


def test_several_data_sets():
    datasets = {"easy": prompt_dataset(2), "hard": prompt_dataset(3)}
    trainer = train(DAPOTrainer, {**RUN, **EVALUATED, "max_steps": 2}, eval_dataset=datasets)
    assert [name for record in evaluations(trainer) for name in record if name.endswith("avg@3")] == [
        "eval_easy_avg@3",
        "eval_hard_avg@3",
    ]


def test_the_best_checkpoint_is_the_one_with_the_best_accuracy():
    config = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, "load_best_model_at_end": True}
    trainer = train(DAPOTrainer, {**RUN, **EVALUATED, **config}, eval_dataset=prompt_dataset(4))
    scores = {record["step"]: record["eval_avg@3"] for record in evaluations(trainer)}
    assert len(set(scores.values())) > 1
    best = max(scores, key=scores.get)
    assert trainer.state.best_metric == scores[best]
    assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{best}"


def test_without_a_filter_reward_there_is_no_accuracy():
    def length(completion_ids, **kwargs):
        return [float(len(ids)) for ids in completion_ids]

    config = {**RUN, **EVALUATED, "max_steps": 2, "dynamic_sampling": False}
    rewards = {"reward_funcs": [correct, length], "eval_dataset": prompt_dataset(2)}
    trainer = train(DAPOTrainer, config, **rewards)
    (record,) = evaluations(trainer)
    assert "eval_reward" in record and not any("avg@" in name for name in record)
    named = train(DAPOTrainer, config | {"dynamic_sampling_metric": "correct"}, **rewards)
    assert "eval_avg@3" in evaluations(named)[0]

    best = {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    with pytest.raises(ValueError, match="eval_avg@3' needs to know which reward .* Set dynamic_sampling_metric"):
        build(DAPOTrainer, config | best, **rewards)


def test_sigterm_does_not_wait_for_an_evaluation():
    calls = []

    def slow(completion_ids, **kwargs):
        if not trainer.model.training:
            calls.append(len(completion_ids))
            trainer.preemption.is_requested = True
        return correct(completion_ids)

    config = {**RUN, **EVALUATED, "save_strategy": "steps", "save_steps": 100}
    trainer = build(DAPOTrainer, config, eval_dataset=prompt_dataset(8), reward_funcs=slow)
    trainer.preemption.is_listening = True
    trainer.train()
    assert (trainer.preemption.is_agreed, trainer.state.global_step, len(calls)) == (True, 2, 1)
    assert evaluations(trainer) == []
    whole = train(DAPOTrainer, RUN)
    resumed = build(DAPOTrainer, RUN)
    resumed.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-2")
    assert torch.equal(weights(resumed.model), weights(whole.model))


def test_sigterm_in_an_evaluation_before_the_first_step():
    def slow(completion_ids, **kwargs):
        trainer.preemption.is_requested |= not trainer.model.training
        return correct(completion_ids)

    config = {**RUN, **EVALUATED, "eval_on_start": True, "save_strategy": "steps", "save_steps": 100}
    trainer = build(DAPOTrainer, config, eval_dataset=prompt_dataset(8), reward_funcs=slow)
    trainer.preemption.is_listening = True
    trainer.train()
    assert (trainer.preemption.is_agreed, trainer.state.global_step) == (True, 0)
