"""Which pushes the trainer asks for, when, and of which files."""

import os
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import PartialState
from transformers import Trainer

from dapo_trl import DAPOTrainer
from dapo_trl.hub import publishing
from dapo_trl.hub.publishing import Push, stage
from dapo_trl.run.preemption import PreemptedError
from tests.helpers import build


class Recorder:
    """A publisher whose uploads end when the test says."""

    def __init__(self):
        self.pushes: list[Push] = []
        self.left_out: list[tuple[str, str]] = []
        self.jobs: list[Future] = []

    def start(self, push: Push) -> Future:
        self.pushes.append(push)
        self.jobs.append(Future())
        return self.jobs[-1]

    def leave_out(self, push: Push, reason: str) -> None:
        self.left_out.append((push.name, reason))


@pytest.fixture
def pushing_trainer(monkeypatch):
    """Builds a trainer that pushes to a [`Recorder`], before its first step."""

    def init_hf_repo(self, token=None):
        self.hub_model_id, self.push_in_progress = "me/model", None

    def make(**config) -> DAPOTrainer:
        return build(DAPOTrainer, {"push_to_hub": True, "save_strategy": "steps"} | config)

    monkeypatch.setattr(DAPOTrainer, "init_hf_repo", init_hf_repo)
    monkeypatch.setattr(publishing, "open_publisher", lambda trainer, token=None: Recorder())
    return make


def save(trainer: DAPOTrainer, *steps: int) -> Recorder:
    for step in steps:
        trainer.state.global_step = step
        publishing.push_checkpoint(trainer, trainer.publisher, f"out/checkpoint-{step}")
    return trainer.publisher


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [(None, None)] * 2),
        ({"hub_revision": "v2"}, [("v2", None)] * 2),
        ({"hub_revision": "step-{step}"}, [("step-10", None), ("step-20", None)]),
        ({"hub_strategy": "checkpoint"}, [(None, "last-checkpoint")] * 2),
        ({"hub_strategy": "all_checkpoints"}, [(None, "checkpoint-10"), (None, "checkpoint-20")]),
        ({"hub_strategy": "end"}, []),
    ],
)
def test_where_checkpoints_go(pushing_trainer, config, expected):
    recorder = save(pushing_trainer(hub_always_push=True, **config), 10, 20)
    assert [push.place for push in recorder.pushes] == expected
    assert [str(push.model_dir) for push in recorder.pushes] == ["out/checkpoint-10", "out/checkpoint-20"][
        : len(expected)
    ]


def test_without_always_push_a_push_waits_for_no_other(pushing_trainer):
    trainer = pushing_trainer()
    recorder = save(trainer, 10, 20)
    assert [push.name for push in recorder.pushes] == ["step 10"]
    ((name, reason),) = recorder.left_out
    assert name == "step 20" and "Set hub_always_push to wait in line" in reason
    recorder.jobs[0].set_result(None)
    assert [push.name for push in save(trainer, 30).pushes] == ["step 10", "step 30"]


def test_with_always_push_all_are_waited_for(pushing_trainer):
    trainer = pushing_trainer(hub_always_push=True)
    recorder = save(trainer, 10, 20)
    assert trainer.push_in_progress.jobs == recorder.jobs
    recorder.jobs[1].set_result(None)
    assert not trainer.push_in_progress.is_done()


def test_a_preempted_run_does_not_spend_its_time_on_pushes(pushing_trainer, monkeypatch):
    trainer = pushing_trainer()
    save(trainer, 10)  # still under way
    trainer.preemption.is_agreed = True
    assert save(trainer, 20).left_out[0][0] == "step 20"
    assert trainer.push_in_progress is not None
    trainer.args.save_strategy = "no"
    trainer._end_early(PreemptedError("SIGTERM"), trainer.model, None)
    trainer._finish_current_push()  # does not wait


@pytest.mark.parametrize(
    ("asked", "there", "is_refused"), [(True, False, True), (True, True, False), (None, False, False)]
)
def test_what_is_to_be_private_is_not_pushed_to_a_public_repository(asked, there, is_refused, monkeypatch, tmp_path):
    api = SimpleNamespace(repo_info=lambda repo_id, token: SimpleNamespace(private=there), endpoint="https://hub")
    monkeypatch.setattr(publishing, "hf_api", lambda: api)
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self, token=None: setattr(self, "hub_model_id", "me/model"))
    monkeypatch.setattr(publishing.Publisher, "finish", lambda self, push: push.message)
    trainer = build(DAPOTrainer, {"hub_private_repo": asked})
    if is_refused:
        with pytest.raises(ValueError, match="hub_private_repo=True, but 'me/model' is there already and public"):
            trainer.push_to_hub()
    else:
        assert trainer.push_to_hub("The end") == "The end"
    assert trainer.hub_address == (None if is_refused else "https://hub/me/model")


def test_a_card_that_fails_does_not_stop_the_final_push(pushing_trainer, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise TypeError("no card.")

    trainer = pushing_trainer()
    monkeypatch.setattr(publishing, "write_card", fails)
    monkeypatch.setattr(Recorder, "finish", lambda self, push: push.message, raising=False)
    assert trainer.push_to_hub("The end") == "The end"
    assert "The model card could not be written: TypeError: no card." in caplog.text


def test_saving_leaves_the_settings_of_training_as_they_are(tmp_path):
    trainer = build(DAPOTrainer)
    trainer.model.config.use_cache, trainer.model.generation_config.eos_token_id = False, 5
    trainer.save_model(str(tmp_path))
    assert '"use_cache": true' in (tmp_path / "config.json").read_text()
    assert (trainer.model.config.use_cache, trainer.model.generation_config.eos_token_id) == (False, 5)


# Which files are pushed


def write(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{directory.name}/{name}")


def staged(checkpoint: Path, whole_checkpoint: str | None = None) -> dict[str, str]:
    folder = stage(Push("step 7", checkpoint, "", whole_checkpoint=whole_checkpoint), checkpoint.parent)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint in a run that has more files than are to be pushed."""
    run = tmp_path / "run"
    write(run, "README.md", "recipe.yaml", "runs/host/events", "evaluation/summary-a.json")
    write(run, "evaluation/completions.jsonl", "model.safetensors", "completions/step_1.parquet", "notes.md")
    directory = run / "checkpoint-7"
    write(directory, "model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md")
    write(
        directory, "optimizer.pt", "trainer_state.json", "training_args.bin", "dapo_state_0.pt", "global_step7/x.bin"
    )
    return directory


def test_a_model_and_what_tells_of_its_run(checkpoint):
    pushed = staged(checkpoint)
    model = ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")
    run = ("README.md", "recipe.yaml", "runs/host/events", "evaluation/summary-a.json")
    expected = {name: f"checkpoint-7/{name}" for name in model} | {name: f"run/{name}" for name in run}
    assert pushed == expected


def test_a_whole_checkpoint(checkpoint):
    pushed = staged(checkpoint, whole_checkpoint="last-checkpoint")
    whole = {name.removeprefix("last-checkpoint/") for name in pushed if name.startswith("last-checkpoint/")}
    there = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert whole == there - {"training_args.bin"}
    assert pushed["config.json"] == "checkpoint-7/config.json"


@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_staged_outlives_the_checkpoint(checkpoint, has_links, monkeypatch):
    def link(source, target):
        raise OSError("Operation not supported")

    if not has_links:
        monkeypatch.setattr(publishing.os, "link", link)
    weights = stage(Push("step 7", checkpoint, ""), checkpoint.parent) / "model.safetensors"
    assert (os.stat(weights).st_nlink == 2) is has_links  # no second copy of the weights, where that is possible
    (checkpoint / "model.safetensors").unlink()
    assert weights.read_text() == "checkpoint-7/model.safetensors"


def test_an_upload_that_ends_late_does_not_stand_for_a_newer_push(checkpoint):
    uploads, messages = [], []
    api = SimpleNamespace(
        endpoint="https://hub",
        run_as_future=lambda *upload: uploads.append(upload),
        upload_folder=lambda commit_message, **_: messages.append(commit_message) or commit_message,
    )
    publisher = publishing.Publisher(api, "me/model", checkpoint.parent)
    first, second = (Push(name, checkpoint, name, whole_checkpoint="last") for name in ("step 1", "step 2"))
    publisher.start(first)
    publisher.leave_out(second, "busy.")
    for upload, *arguments in uploads:
        upload(*arguments)
    assert publisher.finish(Push("step 3", checkpoint.parent, "End of training")) == "End of training"
    assert messages == ["step 1", "step 2", "End of training"]


def test_a_refusal_is_told_outside_of_a_trainer_too(checkpoint, monkeypatch, caplog):
    def refuse(**_):
        raise OSError("Storage quota exceeded.")

    monkeypatch.setattr(publishing, "SECONDS_BETWEEN_ATTEMPTS", (0,))
    monkeypatch.setattr(PartialState, "_shared_state", {})
    publisher = publishing.Publisher(SimpleNamespace(endpoint="hub", upload_folder=refuse), "me/m", checkpoint.parent)
    with pytest.raises(publishing.PushError, match="Not on hub/me/m after 2 attempts: the final model .main. from"):
        publisher.finish(Push("the final model", checkpoint.parent, "Model card"))
    assert "The push of the final model to hub/me/m failed: Storage quota exceeded." in caplog.text
