"""Trackers get everything that is logged, under Trainer's names."""

from numbers import Number
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback
from transformers.integrations.integration_utils import rewrite_logs

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.timer import PHASES
from tests.helpers import prompt_dataset, train


CONFIG = {
    "updates_per_rollout": 2,
    "max_steps": 4,
    "logging_steps": None,
    "eval_rollouts": 1,
    "per_device_eval_batch_size": 4,
    "num_generations_eval": 2,
}

TRAINING = {
    *(f"train/{name}" for name in ("reward", "frac_correct", "entropy", "mean_probability")),
    *(f"train/clip_ratio/{side}_mean" for side in ("low", "high")),
    *(f"train/completions/mean_{which}length" for which in ("", "accepted_", "correct_")),
    "train/completions/clipped_ratio",
    *(f"train/dynamic_sampling/{name}" for name in ("acceptance_rate", "frac_all_correct", "frac_all_wrong")),
    *(f"train/dynamic_sampling/{name}" for name in ("rounds", "generated_per_trained")),
    *(f"train/time/{phase}" for phase in (*PHASES, "rollout")),
    *(f"train/tokens_per_second/{what}" for what in ("generation", "training", "rollout")),
}
EVALUATION = {"eval/avg@2", "eval/avg@2_low", "eval/avg@2_high", "eval/num_unscorable", "eval/reward"}


class Tracker(TrainerCallback):
    """Keeps what Trainer's own integrations would send."""

    def __init__(self):
        self.sent = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.sent.append(rewrite_logs(logs))


@pytest.fixture(scope="module")
def run():
    """A tracker, and where TensorBoard wrote."""
    tracker = Tracker()
    config = CONFIG | {"report_to": "tensorboard"}
    trainer = train(DAPOTrainer, config, eval_dataset=prompt_dataset(6), callbacks=[tracker])
    return tracker, trainer.args.output_dir


def test_what_a_tracker_gets(run):
    first, evaluation, *_ = run[0].sent
    assert first.keys() >= TRAINING
    assert evaluation.keys() >= EVALUATION
    assert all(isinstance(value, Number) for logs in (first, evaluation) for value in logs.values())


def test_tensorboard(run):
    (folder,) = Path(run[1], "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) >= TRAINING | EVALUATION
    assert [event.step for event in events.Scalars("train/time/generation")] == [2, 4]
    assert [event.step for event in events.Scalars("eval/avg@2")] == [2, 4]
