"""A server of two engines that start with the same random numbers: the completions of a group differ all the same."""

from functools import partial

import pytest

from dapo_trl.generation.vllm.client import GuardedClient, group_seed
from tests.helpers import FIRST_CHARACTER
from tests.recording_vllm import HeldClaim

from .client import FileClient
from .server import running
from .trainers import build, train_and_compare


@pytest.fixture(scope="module")
def two_engines(models, tmp_path_factory):
    with running(models["tied"], tmp_path_factory.mktemp("server") / "log", data_parallel_size="2") as server:
        yield server


PROMPTS = [[FIRST_CHARACTER + i % 6, FIRST_CHARACTER] for i in range(12)]
"""Each of six twice."""


def test_completions_differ_within_groups_and_between_equal_prompts_and_come_again_with_their_draw(two_engines):
    client = GuardedClient(FileClient(base_url=two_engines.url), 120.0, HeldClaim())

    def draw(number: int) -> list[tuple[int, ...]]:
        client.group_seed = partial(group_seed, 42, "training", 0, number)
        output = client.generate(prompts=PROMPTS, n=16, max_tokens=32, generation_kwargs={"ignore_eos": True})
        assert client.take_fault() is None
        assert output["prompt_ids"] == PROMPTS
        return [tuple(ids) for ids in output["completion_ids"]]

    first = draw(0)
    assert len(set(first)) == len(first) == 12 * 16
    assert draw(0) == first
    assert not set(draw(1)) & set(first)


def test_a_run_on_two_engines(two_engines, models):
    trainer = build(two_engines.url, models["tied"])
    comparison = train_and_compare(trainer, two_engines.url)
    assert comparison.moved[-1] > 0.1 and max(comparison.differences) < 1e-3
    copied = [record["completions/frac_copied"] for record in trainer.state.log_history if "reward" in record]
    assert copied and max(copied) == 0
