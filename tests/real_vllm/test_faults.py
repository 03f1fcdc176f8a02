"""A server that fails, hangs, dies or comes back as another: the run goes on, or ends with a checkpoint."""

import threading
from collections.abc import Callable

import httpx
import pytest
from transformers import TrainerCallback

from dapo_trl.generation.vllm import generation
from dapo_trl.generation.vllm.generation import ServerError
from dapo_trl.generation.vllm.preflight import UnreachableError
from dapo_trl.run.checkpoint import last_complete_checkpoint

from .proxy import Proxy, let_through
from .server import START_TIMEOUT, reserved_port
from .trainers import build, train_and_compare


GENERATE = "/v1/completions"
MAX_DIFFERENCE = 1e-3
SEVERAL_ROUNDS = {"max_oversampling": 1.0}
"""Half of the groups are informative, so that no round fills a rollout."""
FIRST_ROUND = [let_through] * 8
"""Each of its groups is a request."""


@pytest.fixture(autouse=True)
def short_delays(monkeypatch):
    """Pauses of a tenth of a second and its multiples."""
    monkeypatch.setattr(generation, "FIRST_DELAY", 0.1)


class After(TrainerCallback):
    """Does something after an optimizer step: the second ends the first rollout."""

    def __init__(self, step: int, action: Callable[[], None]):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def assert_trained(trainer, comparison, num_syncs: int) -> None:
    """The run came to its end, every rollout by the weights of its time."""
    assert trainer.state.global_step == 6
    assert comparison.moved[-1] > 0.1
    assert max(comparison.differences) < MAX_DIFFERENCE
    assert trainer.vllm_generation.vllm_client.num_syncs == num_syncs


# Faults that pass: three rollouts are three syncs, and each fault is one more


@pytest.mark.parametrize("fault", ["500", "dropped connection", "hung request"])
def test_a_fault_of_one_request_is_survived(fault, proxy, models):
    harm = {"500": proxy.fail(500), "dropped connection": proxy.drop, "hung request": proxy.hang}[fault]
    trainer = build(proxy.url, models["tied"], vllm_max_retries=2, vllm_request_timeout=20)
    trainer.add_callback(After(2, lambda: proxy.harm(GENERATE, harm)))
    assert_trained(trainer, train_and_compare(trainer, proxy.url), num_syncs=4)
    assert proxy.num_waited_for == 0


@pytest.mark.parametrize("path", ["/start_weight_update", "/update_weights", "/finish_weight_update"])
def test_a_fault_of_the_weight_transfer_is_survived(path, proxy, models):
    trainer = build(proxy.url, models["tied"], vllm_max_retries=2)
    trainer.add_callback(After(2, lambda: proxy.harm(path, proxy.fail(503))))
    assert_trained(trainer, train_and_compare(trainer, proxy.url), num_syncs=5)  # the repeated operation is a sync too


def test_weights_of_a_stranger_are_noticed(proxy, models):
    """A restart between two requests, or another run, changes the weights while every request succeeds."""

    def change_weights():
        url, body = f"{proxy.target}/update_weight_version", {"new_version": "of a stranger"}
        httpx.post(url, json=body, timeout=30).raise_for_status()

    trainer = build(proxy.url, models["tied"], vllm_max_retries=2)
    trainer.add_callback(After(2, lambda: proxy.harm(GENERATE, proxy.run(change_weights))))
    assert_trained(trainer, train_and_compare(trainer, proxy.url), num_syncs=4)


# Faults that stay


def test_a_fault_that_stays_ends_the_run_with_a_checkpoint_that_resumes(proxy, models, output_dir):
    fields = {"output_dir": output_dir, "save_strategy": "steps", "save_steps": 100, "vllm_max_retries": 2}
    fields |= SEVERAL_ROUNDS
    trainer = build(proxy.url, models["tied"], **fields)
    # The first round of the second rollout succeeds: what it drew must be drawn again.
    trainer.add_callback(After(2, lambda: proxy.harm(GENERATE, *FIRST_ROUND, *[proxy.fail(500)] * 100)))
    with pytest.raises(ServerError, match=r"500.*last of 3 attempts.*resume"):
        trainer.train()
    assert trainer.state.global_step == 2
    drawn_before = trainer.sampler.stream.state_dict()

    proxy.harms.clear()
    resumed = build(proxy.url, models["tied"], **fields)
    started_from = []
    score = resumed._score_informative_groups
    resumed._score_informative_groups = lambda sampler: (
        started_from.append(sampler.stream.state_dict()),
        score(sampler),
    )[1]
    resumed.train(resume_from_checkpoint=last_complete_checkpoint(output_dir))
    assert resumed.state.global_step == 6
    assert started_from[0] == drawn_before
    assert len(started_from) == 2


def test_a_request_that_the_server_refuses_is_a_clear_error(server, models):
    """Lengths are checked before the start; here one changes afterwards."""
    trainer = build(server.url, models["tied"])
    trainer.vllm_generation.max_completion_length = 100
    with pytest.raises(ServerError, match="max_tokens=100 cannot be greater than max_model_len=64"):
        trainer.train()


def test_a_server_that_comes_back_with_another_model_is_a_clear_error(proxy, untied_server, models, output_dir):
    trainer = build(proxy.url, models["tied"], vllm_max_retries=2, save_strategy="steps", output_dir=output_dir)

    def exchange():
        proxy.target = untied_server.url
        proxy.harm(GENERATE, proxy.drop)

    trainer.add_callback(After(2, exchange))
    with pytest.raises(ServerError, match=r"serves '.*untied', but the run trains '.*tied'"):
        trainer.train()
    assert last_complete_checkpoint(output_dir).endswith("checkpoint-2")


# A server that is not up


def test_a_server_that_is_not_up_yet_is_waited_for(server, models):
    """Its port opens late, as that of a server that still loads its model."""
    proxy = Proxy(server.url)
    threading.Timer(5, proxy.open).start()
    trainer = build(proxy.url, models["tied"], max_steps=2)
    trainer.train()
    proxy.close()
    assert trainer.state.global_step == 2


def test_a_server_that_does_not_come_up_is_a_clear_error(models):
    port, holder = reserved_port()
    message = r"was not up after 3 seconds.*vllm_server_timeout.*dapo-trl vllm-command"
    with holder, pytest.raises(UnreachableError, match=message):
        build(f"http://127.0.0.1:{port}", models["tied"], vllm_server_timeout=3)


def test_killed_and_restarted_in_the_middle_of_a_rollout(server, proxy, models):
    """With a request under way, when the weights have moved away from those the server starts with."""
    fields = SEVERAL_ROUNDS | {"vllm_max_retries": 2, "vllm_server_timeout": START_TIMEOUT}
    trainer = build(proxy.url, models["tied"], **fields)

    def kill_and_restart():
        server.kill()
        server.start()

    trainer.add_callback(After(2, lambda: proxy.harm(GENERATE, *FIRST_ROUND, proxy.run(kill_and_restart))))
    assert_trained(trainer, train_and_compare(trainer, proxy.url), num_syncs=4)
