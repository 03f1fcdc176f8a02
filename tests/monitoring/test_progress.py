"""What a run shows in the terminal."""

import pytest
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.logs import ProgressBarCallback, RolloutLineCallback, show_rollouts
from tests.helpers import build, prompt_dataset, train


LOGS = {
    "loss": 0.25,
    "reward": -0.5,
    "frac_correct": 0.25,
    "dynamic_sampling/acceptance_rate": 0.625,
    "completions/mean_length": 123.456,
    "entropy": 0.5,
    "time/rollout": 12.34,
}
LINE = "rollout  3/12  reward -0.500  accuracy 0.250  accepted 0.62  length  123.5  entropy 0.500  12.3 s"


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        (LOGS, LINE),
        ({"loss": 0.25, "reward": 1.0}, "rollout  3/12  reward  1.000"),
        (
            {
                "eval_avg@4": 0.5,
                "eval_avg@4_low": 0.25,
                "eval_avg@4_high": 0.75,
                "eval_reward": 0.0,
                "eval_runtime": 2.0,
            },
            "evaluation after step 6  avg@4 0.500 [0.250, 0.750]  seconds 2.0",
        ),
        (
            {"eval_gsm8k_avg@1": 0.5, "eval_gsm8k_loss": 1.0, "eval_completions/mean_length": 20.0},
            "evaluation after step 6  gsm8k_avg@1 0.500  length 20.0",
        ),
        ({"eval_reward": 0.123456, "eval_rows": 6, "epoch": 0.1}, "eval_reward 0.1235  eval_rows 6"),
        ({"train_runtime": 12.0, "train_loss": 0.1, "reward": 0.5}, "6 optimizer steps in 12.0 s"),
        ({"mine": 0.5, "note": "text"}, "mine 0.5  note text"),
    ],
    ids=["rollout", "few metrics", "evaluation", "named evaluation", "no accuracy", "summary", "other"],
)
def test_lines(logs, expected):
    assert RolloutLineCallback(optimizer_steps=2).line(logs, step=6, max_steps=24) == expected


def test_one_line_per_rollout_however_often_it_logs():
    lines = RolloutLineCallback(optimizer_steps=2)
    written = [lines.line({"loss": 0.0, "reward": step / 4}, step, max_steps=5) for step in (1, 2, 3, 4, 5)]
    assert written == [None, "rollout 1/3  reward  0.375", None, "rollout 2/3  reward  0.875", None]


CONFIG = {"updates_per_rollout": 2, "max_steps": 4, "logging_steps": None}
EVALUATION = {"eval_rollouts": 2, "per_device_eval_batch_size": 4}


@pytest.mark.parametrize("has_bar", [True, False])
def test_a_run(has_bar, capsys):
    train(DAPOTrainer, {**CONFIG, **EVALUATION, "disable_tqdm": not has_bar}, eval_dataset=prompt_dataset(2))
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line and not line.startswith("[")]  # DeepSpeed's begin so
    begins = [" ".join(line.split()[:2]) for line in lines]
    assert begins == ["rollout 1/2", "rollout 2/2", "evaluation after", "4 optimizer"]
    assert ("4/4" in captured.err) == has_bar


def test_a_resumed_run_counts_on(capsys):
    config = {**CONFIG, "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = train(DAPOTrainer, config)
    capsys.readouterr()
    resumed = build(DAPOTrainer, config)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if "rollout" in line] == ["2/3", "3/3"]


class Own(ProgressCallback):
    """A user's."""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ProgressCallback, [ProgressBarCallback, RolloutLineCallback]),
        (PrinterCallback, [RolloutLineCallback]),
        (Own, [Own]),
        (TrainerCallback, [TrainerCallback]),
    ],
)
def test_what_is_replaced(before, after):
    handler = CallbackHandler([before()], None, None, None, None)
    show_rollouts(handler, optimizer_steps=1)
    assert [type(callback) for callback in handler.callbacks] == after
