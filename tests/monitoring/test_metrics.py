"""Metrics weighed by what they describe."""

import math

import pytest
import torch
from trl.trainer.utils import nanstd

from dapo_trl.monitoring.metrics import (
    MicroBatchMetrics,
    constant_value,
    count_corrected,
    reward_metrics,
    total_rewards,
)
from dapo_trl.sampling.collection import merge_completion_metrics


NAN = math.nan


def test_token_means_are_weighed_by_tokens():
    metrics = MicroBatchMetrics()
    recorded = {"entropy": [2.0], "clip_ratio/region_mean": [0.5], "reward": [9.0]}
    metrics.add(recorded, num_tokens=30)
    assert recorded == {"reward": [9.0]}  # what describes no tokens stays
    metrics.add({"entropy": [6.0], "clip_ratio/region_mean": [0.1]}, num_tokens=10)
    # (2 * 30 + 6 * 10) / 40 and (0.5 * 30 + 0.1 * 10) / 40
    assert metrics.flush() == pytest.approx({"entropy": 3.0, "clip_ratio/region_mean": 0.4})
    assert metrics.flush() == {}


def test_extremes_are_extremes_of_all_micro_batches():
    metrics = MicroBatchMetrics()
    for low, high in [(0.2, 0.3), (0.1, 0.5), (NAN, NAN), (0.4, 0.4)]:
        metrics.add({"clip_ratio/low_min": [low], "clip_ratio/high_max": [high]}, num_tokens=1)
    assert metrics.flush() == {"clip_ratio/low_min": 0.1, "clip_ratio/high_max": 0.5}


def test_a_mean_without_tokens_is_left_out():
    metrics = MicroBatchMetrics()
    metrics.add({"kl": [0.0]}, num_tokens=0)
    assert metrics.flush() == {}


def completion_metrics(lengths: list[int], terminated: list[int]) -> dict[str, float]:
    """TRL's metrics of one call, by its formulas: `terminated` are the lengths of completions that ended."""
    ended = terminated or [0]
    return {
        "completions/mean_length": sum(lengths) / len(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 - len(terminated) / len(lengths),
        "completions/mean_terminated_length": sum(ended) / len(ended),
        "completions/min_terminated_length": min(ended),
        "completions/max_terminated_length": max(ended),
    }


@pytest.mark.parametrize(
    "calls",
    [
        [([4, 8], [4, 8]), ([6, 16, 16, 10], [6, 10])],
        [([16, 16], []), ([3, 5, 16], [3, 5])],  # nothing ended in the first call: its minimum 0 is none
        [([16, 16], []), ([16], [])],
        [([2], [2])],
    ],
)
def test_calls_are_merged_as_if_they_had_been_one(calls):
    merged = merge_completion_metrics([(len(lengths), completion_metrics(lengths, ended)) for lengths, ended in calls])
    everything = completion_metrics(
        [length for lengths, _ in calls for length in lengths], [length for _, ended in calls for length in ended]
    )
    assert merged == pytest.approx(everything)


def test_total_rewards():
    rewards = torch.tensor([[1.0, -0.5], [NAN, -0.5], [1.0, NAN], [NAN, NAN]])
    total = total_rewards(rewards, torch.tensor([2.0, 0.5]))
    assert total[:3].tolist() == [1.75, -0.25, 2.0]
    assert total[3].isnan()


def test_reward_metrics_known_answer():
    # Weighted: 1 - 0 = 1, -1, | 1, 1, | -1 - 0.5 = -1.5, NaN (missing in both).
    rewards = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, -1.0], [NAN, NAN]])
    metrics = reward_metrics(rewards, torch.tensor([1.0, 0.5]), ["correct", "overlong"], num_generations=2)
    assert metrics == pytest.approx(
        {
            "rewards/correct/mean": 0.2,  # (1 - 1 + 1 + 1 - 1) / 5
            "rewards/correct/std": math.sqrt(4.8 / 4),  # deviations 0.8, -1.2, 0.8, 0.8, -1.2: squares sum to 4.8
            "rewards/overlong/mean": -0.2,
            "rewards/overlong/std": math.sqrt(0.8 / 4),
            "reward": 0.1,  # (1 - 1 + 1 + 1 - 1.5) / 5
            "reward_std": math.sqrt(6.2 / 4),  # 0.81 + 1.21 + 0.81 + 0.81 + 2.56
            "frac_reward_zero_std": 1 / 3,  # the second group; TRL does not count a group of one value, nor do we
        }
    )


@pytest.mark.parametrize("seed", range(4))
def test_reward_metrics_are_trls(seed):
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randint(-1, 2, (40, 3), generator=generator).float() * 0.1
    rewards[torch.rand(40, 3, generator=generator) < 0.1] = torch.nan
    rewards[8:16] = 0.1
    weights = torch.tensor([1.0, 0.5, 2.0])
    # GRPOTrainer._generate_and_score_completions, in its order.
    total = (rewards * weights).nansum(dim=1)
    total[rewards.isnan().all(dim=1)] = torch.nan
    is_std_zero = torch.isclose(nanstd(total.view(-1, 4), dim=1), torch.zeros(10))
    expected = {
        "reward": total.nanmean().item(),
        "reward_std": nanstd(total).item(),
        "frac_reward_zero_std": is_std_zero.float().mean().item(),
    }
    for i, name in enumerate("abc"):
        expected[f"rewards/{name}/mean"] = rewards[:, i].nanmean().item()
        expected[f"rewards/{name}/std"] = nanstd(rewards[:, i]).item()
    assert reward_metrics(rewards, weights, ["a", "b", "c"], num_generations=4) == pytest.approx(expected)


def test_equal_floats_have_no_deviation():
    metrics = reward_metrics(torch.full((3, 1), 0.1), torch.ones(1), ["r"], num_generations=3)
    assert metrics["frac_reward_zero_std"] == 1.0


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([[-1.0, 0.0], [-1.0, -0.5]], -1.0),
        ([[1.0, 0.0], [1.0, -0.5]], 1.0),
        ([[-1.0, 0.0], [NAN, -0.5]], -1.0),
        ([[-1.0, 0.0], [1.0, -0.5]], None),  # varies
        ([[-1.0, 0.0], [-1.0, 0.0]], None),  # the total is constant too
        ([[NAN, 0.0], [NAN, -0.5]], None),  # missing everywhere
    ],
)
def test_constant_value(rewards, expected):
    assert constant_value(torch.tensor(rewards), torch.ones(2), column=0) == expected


def test_a_constant_zero_is_told_from_none():
    assert constant_value(torch.tensor([[0.0, 1.0], [0.0, 2.0]]), torch.ones(2), column=0) == 0.0


# What the correction of vLLM's log-probabilities changes

OLD = torch.tensor([[-1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])
# Ratios 1, 3, 1/3, 3 (not trained); 1.5 four times, one of them unknown.
SAMPLING = torch.tensor(
    [
        [-1.0, -1.0 - math.log(3), -1.0 + math.log(3), -1.0 - math.log(3)],
        [-1.0 - math.log(1.5), -1.0 - math.log(1.5), -1.0 - math.log(1.5), math.nan],
    ]
)
TRAINED = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize(
    ("mode", "lower", "upper", "corrected"),
    [
        ("token_truncate", None, 2.0, 1),
        ("token_truncate", 0.5, 2.0, 2),
        ("token_mask", 0.5, None, 1),
        ("token_truncate", None, 1.2, 4),
        ("token_truncate", None, None, 0),
        # of the sequences: 1 * 3 / 3 = 1, and 1.5 ** 3 = 3.4
        ("sequence_mask", None, 3.0, 4),
        ("sequence_truncate", None, 4.0, 0),
        ("sequence_truncate", 2.0, 4.0, 3),
    ],
)
def test_tokens_out_of_bounds(mode, lower, upper, corrected):
    scored = {"old_per_token_logps": OLD, "sampling_per_token_logps": SAMPLING}
    assert count_corrected(scored, TRAINED, mode, lower, upper).tolist() == [corrected, 7]
