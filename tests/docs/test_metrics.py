"""Every metric that a run logs is explained, and what is explained is logged."""

import re
from fnmatch import fnmatch

import pytest

from dapo_trl import AccuracyReward, DAPOTrainer
from tests.docs.pages import ROOT
from tests.helpers import ScriptedRollouts, correct, prompt_dataset, train


OF_TRAINER = {"step", "epoch", "total_flos", "eval_loss", "eval_runtime"}
"""Trainer's own, and the evaluation loss that TRL computes along."""

NOT_LOGGED_HERE = {"kl", "cispo_clip_ratio", "sampling/*", "sampling/frac_corrected", "completions/frac_copied"}
NOT_LOGGED_HERE |= {"dynamic_sampling/frac_all_equal"}
"""With a reference model, another loss, a vLLM server, a graded reward."""


def documented() -> set[str]:
    """Names in the first columns of the tables; placeholders are wildcards."""
    cells = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / "metrics.md").read_text(), flags=re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    return {re.sub(r"<\w+>", "*", name) for name in names}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Names of everything in the log of a run with two rewards and an evaluation."""
    trainer = train(
        DAPOTrainer,
        {
            "output_dir": str(tmp_path_factory.mktemp("run")),
            "soft_punish_cache": 12,
            "updates_per_rollout": 2,
            "dynamic_sampling_metric": "correct",
            "max_steps": 4,
            "eval_rollouts": 1,
        },
        reward_funcs=[correct, AccuracyReward()],
        rollout_func=ScriptedRollouts(),
        train_dataset=prompt_dataset(40).add_column("solution", ["1"] * 40),
        eval_dataset=prompt_dataset(8).add_column("solution", ["1"] * 8),
    )
    names = {name for line in trainer.state.log_history for name in line}
    return {name for name in names if name not in OF_TRAINER and not re.match("(train|eval.*per_second)", name)}


def test_what_is_logged_is_documented(logged):
    patterns = documented() | {"eval_entropy", "eval_clip_ratio/*", "eval_frac_reward_zero_std", "eval_*_std"}
    patterns |= {"eval_num_tokens", "eval_verifier/*"}
    assert "reward" in logged
    assert {name for name in logged if not any(fnmatch(name, pattern) for pattern in patterns)} == set()


def test_what_is_documented_is_logged(logged):
    missing = {pattern for pattern in documented() if not any(fnmatch(name, pattern) for name in logged)}
    assert missing == NOT_LOGGED_HERE
