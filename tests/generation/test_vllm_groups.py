"""Every group of completions is a request with a seed of its own, and otherwise TRL's request."""

import random
import threading

import pytest
import torch
from datasets import Dataset
from requests import Session
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient

from dapo_trl import DAPOTrainer
from dapo_trl.generation.vllm import client as client_module
from dapo_trl.generation.vllm import generation
from dapo_trl.generation.vllm.client import GuardedClient, generate_groups, group_seed
from dapo_trl.generation.vllm.generation import Generation
from dapo_trl.monitoring.metrics import count_copies
from tests.helpers import EOS, FIRST_CHARACTER, VOCABULARY, build, train, weights
from tests.recording_vllm import FakeClient, HeldClaim


SAMPLING = {
    "n": 3,
    "repetition_penalty": 1.1,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.05,
    "max_tokens": 64,
    "logprobs": 0,
    "structured_outputs_regex": "a+",
    "generation_kwargs": {"frequency_penalty": 0.5, "stop_token_ids": [7]},
}


# The seed


def test_seeds_leave_room_for_the_number_of_the_completion():
    """vLLM takes 64 bits with a sign, and adds the number of the completion."""
    seeds = [group_seed(42, "training", step, 0, group) for step in range(100) for group in range(100)]
    assert max(seeds) < 2**62 and min(seeds) >= 0
    assert len(set(seeds)) == len(seeds)
    assert min(b - a for a, b in zip(sorted(seeds), sorted(seeds)[1:], strict=False)) > 1000


def test_seeds_are_the_same_in_every_process():
    assert group_seed(42, "training", 3, 1, 5) == 793827499861129622


def test_seeds_tell_runs_phases_steps_rounds_and_groups_apart():
    draws = [(seed, phase, 1, 2, 3) for seed in (1, 2) for phase in ("training", "evaluation")]
    draws += [(1, "training", 2, 1, 3), (1, "training", 1, 3, 2), (1, "training", 12, 3, 0), (1, "training", 1, 23, 0)]
    assert len({group_seed(*draw) for draw in draws}) == len(draws)


# The request


def trls_client() -> tuple[VLLMClient, list[tuple[str, dict]]]:
    """TRL's own client, and what it posts; the answer to a prompt is its tokens in reverse."""
    client, posted = object.__new__(VLLMClient), []
    client.session, client.base_url, client.model = Session(), "http://server", "model"

    def post(url, json):
        posted.append((url, json))
        prompts = json["prompt"] if "prompt" in json else [json["token_ids"]]
        number = json.get("n", json.get("sampling_params", {}).get("n"))
        choices = [
            {
                "prompt_token_ids": prompt,
                "token_ids": [*reversed(prompt), i],
                "logprobs": {"content": [{"token": f"token_id:{i}", "logprob": -1.0, "top_logprobs": []}]},
            }
            for prompt in prompts
            for i in range(number)
        ]
        return {"choices": choices}

    client._post = post
    return client, posted


def asked(prompts, **changed) -> tuple[dict, list[tuple[str, dict]], dict, list[tuple[str, dict]]]:
    """TRL's answer and posts, and ours."""
    arguments = SAMPLING | changed
    client, expected_posts = trls_client()
    expected = client.generate(prompts=prompts, **arguments)
    client, posts = trls_client()
    guarded = GuardedClient(client, 1.0, HeldClaim())
    guarded.group_seed = lambda number: 1000 + number
    return expected, expected_posts, guarded.generate(prompts=prompts, **arguments), posts


PROMPTS = [[1, 2, 3], [4, 5], [1, 2, 3], [6]]


@pytest.mark.parametrize("generation_kwargs", [SAMPLING["generation_kwargs"], {}, None])
def test_nothing_but_the_seed_differs_from_trls_request(generation_kwargs):
    expected, [(url, whole)], actual, posts = asked(PROMPTS, generation_kwargs=generation_kwargs)
    assert actual == expected
    assert len(posts) == len(PROMPTS)
    posts.sort(key=lambda post: post[1]["seed"])
    for number, (own_url, body) in enumerate(posts):
        assert own_url == url
        assert body == whole | {"prompt": [PROMPTS[number]], "seed": 1000 + number}


def test_answers_without_logprobs():
    def generate(prompts, **kwargs):
        return {"prompt_ids": prompts, "completion_ids": [[1]], "logprobs": None, "logprob_token_ids": None}

    answer = generate_groups(generate, lambda number: 0, prompts=PROMPTS)
    assert answer["logprobs"] is None and answer["logprob_token_ids"] is None
    assert answer["prompt_ids"] == PROMPTS


def test_all_groups_are_under_way_together_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(client_module, "MAX_REQUESTS", 3)
    together, under_way, most = threading.Barrier(3), [], []

    def generate(prompts, **kwargs):
        under_way.append(prompts)
        most.append(len(under_way))
        together.wait(timeout=60)  # three at once, or never
        under_way.remove(prompts)
        return {"prompt_ids": prompts}

    prompts = [[i] for i in range(9)]
    assert generate_groups(generate, lambda number: 0, prompts=prompts) == {"prompt_ids": prompts}
    assert max(most) == 3


def test_a_fault_of_one_group_is_one_of_all_and_later_ones_are_not_asked():
    client, posts = trls_client()
    post = client._post

    def fail(url, json):
        if json["prompt"] == [[3]]:
            raise ConnectionError("gone")
        return post(url, json)

    client._post = fail
    guarded = GuardedClient(client, 1.0, HeldClaim())
    guarded.group_seed = lambda number: number
    answer = guarded.generate(prompts=[[i] for i in range(5)], n=1)
    assert answer["completion_ids"] == []
    assert "gone" in guarded.take_fault()


def test_without_a_draw_requests_are_trls():
    """Those of a `rollout_func` that uses the client by itself."""
    client, posts = trls_client()
    GuardedClient(client, 1.0, HeldClaim()).generate(prompts=PROMPTS, **SAMPLING)
    assert len(posts) == 1 and "seed" not in posts[0][1]


# A run


class SeededServer(FakeClient):
    """
    What it answers depends on prompt and seed alone, as vLLM's answers do.

    Attributes:
        requests (`list[tuple[int, tuple[int, ...]]]`): seed and prompt of each.
        num_faults (`int`): requests that fail from now on.
        num_tokens (`int`): of each completion.
        takes_seeds (`bool`): false samples the second half of every group as the first, as two engines do.
    """

    num_tokens, takes_seeds = 8, True

    def __init__(self, **kwargs):
        super().__init__()
        self.requests, self.num_faults, self.lock = [], 0, threading.Lock()

    def generate(self, prompts, n, generation_kwargs, **kwargs):
        seed = generation_kwargs["seed"]
        with self.lock:
            self.requests.append((seed, *prompts[0]))
            self.num_faults -= 1
            if self.num_faults >= 0:
                raise ConnectionError("gone")
        draws = [random.Random(f"{prompts[0]} {seed + (i if self.takes_seeds else i % (n // 2))}") for i in range(n)]
        tokens = range(FIRST_CHARACTER, len(VOCABULARY))
        return {
            "prompt_ids": prompts,
            "completion_ids": [draw.choices(tokens, k=self.num_tokens) for draw in draws],
            "logprobs": [[[-4.0]] * self.num_tokens] * n,
            "logprob_token_ids": [[[0]] * self.num_tokens] * n,
        }


FIELDS = {
    "use_vllm": True,
    "vllm_mode": "server",
    "vllm_server_base_url": "http://server",
    "updates_per_rollout": 2,
    "max_steps": 6,
    "max_oversampling": 1.0,
}
"""Three rollouts of several rounds."""


@pytest.fixture
def make(monkeypatch):
    """Makes a trainer on a [`SeededServer`]."""
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "VLLMClient", SeededServer)
    for name in ("_find_mismatch", "_compare"):
        monkeypatch.setattr(Generation, name, lambda self, *args: None)
    monkeypatch.setattr(generation, "FIRST_DELAY", 0.0)
    return lambda config=None, **arguments: build(DAPOTrainer, FIELDS | (config or {}), rollout_func=None, **arguments)


def requests_of(trainer) -> list[tuple]:
    """Sorted, because those of a round are under way together."""
    return sorted(trainer.vllm_generation.vllm_client.requests)


def rounds_of(trainer) -> float:
    return sum(record.get("dynamic_sampling/rounds", 0) for record in trainer.state.log_history)


def test_every_group_of_a_run_has_its_own_seed_and_a_second_run_has_the_same(make):
    first, second, other = make(), make(), make({"seed": 43})
    for trainer in (first, second, other):
        trainer.train()
    seeds = [seed for seed, *_ in requests_of(first)]
    assert rounds_of(first) > 3 and len(set(seeds)) == len(seeds)
    assert requests_of(second) == requests_of(first)
    assert torch.equal(weights(second.model), weights(first.model))
    assert not set(seeds) & {seed for seed, *_ in requests_of(other)}


def test_equal_prompts_of_one_request_get_different_completions(make):
    prompts = Dataset.from_dict({"prompt": ["1="] * 8})
    trainer = make({"dynamic_sampling": False, "max_steps": 1}, train_dataset=prompts)
    trainer.train()
    seeds, prompts = zip(*((seed, tuple(prompt)) for seed, *prompt in requests_of(trainer)), strict=True)
    assert len(set(prompts)) == 1 and len(set(seeds)) == len(seeds) > 1
    assert trainer.state.log_history[0]["completions/frac_distinct"] == 1


def test_a_resumed_run_draws_what_it_would_have_drawn(make, tmp_path):
    fields = {"output_dir": str(tmp_path), "save_strategy": "steps", "save_steps": 2}
    whole = make(fields)
    whole.train()
    resumed = make(fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert 0 < len(requests_of(resumed)) < len(requests_of(whole))
    assert set(requests_of(resumed)) < set(requests_of(whole))
    assert torch.equal(weights(resumed.model), weights(whole.model))


def test_an_evaluation_has_seeds_of_its_own_and_leaves_those_of_the_training_alone(make):
    plain = make()
    evaluated = make(
        {"eval_rollouts": 1, "eval_on_start": True, "per_device_eval_batch_size": 8, "num_generations_eval": 4},
        eval_dataset=Dataset.from_dict({"prompt": ["e=", "f="]}),
    )
    for trainer in (plain, evaluated):
        trainer.train()
    of_training, of_both = requests_of(plain), requests_of(evaluated)
    assert set(of_training) < set(of_both)
    of_evaluation = [seed for seed, *_ in set(of_both) - set(of_training)]
    assert len(of_evaluation) == len(of_both) - len(of_training) == 2 * 4
    assert len({seed for seed, *_ in of_both}) == len(of_both)


def test_after_a_fault_the_same_groups_have_the_same_seeds(make):
    plain, broken = make(), make()
    plain.train()
    broken.vllm_generation.vllm_client._client.num_faults = 1
    broken.train()
    assert len(requests_of(broken)) > len(requests_of(plain))
    assert set(requests_of(broken)) == set(requests_of(plain))
    assert torch.equal(weights(broken.model), weights(plain.model))


def test_after_a_draw_none_of_its_seeds_is_left(make):
    """Or whoever asks next by himself, such as a `rollout_func`, would get the same again and again."""
    trainer = make()
    trainer.train()
    assert trainer.vllm_generation.vllm_client.group_seed is None


# What is refused


@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_a_seed_in_generation_kwargs_is_refused(mode):
    with pytest.raises(ValueError, match="'seed': 5} cannot be used.*equal prompts.*the field seed"):
        build(DAPOTrainer, FIELDS | {"vllm_mode": mode, "generation_kwargs": {"seed": 5}})


# Copies


def test_count_copies():
    #              a copy, twice             none             all but one
    completions = torch.tensor([1, 1, 2, 1, 3, 4, 5, 6, 7, 7, 7, 7])
    logps = torch.tensor([-30.0, -30, -30, -30, -1, -1, -1, -1, -19.0, -19, -19, -19])
    assert count_copies(completions, logps, 4) == pytest.approx(((2 / 4 + 4 / 4 + 1 / 4) / 3, 2 / 12))
    assert count_copies(completions, None, 4) == (pytest.approx(1.75 / 3), None)
    # Of another group, it is no copy.
    assert count_copies(torch.tensor([1, 2, 1, 2]), torch.full((4,), -30.0), 2) == (1.0, 0.0)


def records(trainer) -> list[dict]:
    return [record for record in trainer.state.log_history if "completions/frac_distinct" in record]


@pytest.mark.parametrize("is_dynamic", [True, False])
def test_engines_that_sample_alike_raise_an_alarm(make, monkeypatch, is_dynamic):
    monkeypatch.setattr(SeededServer, "takes_seeds", False)
    trainer = make({"dynamic_sampling": is_dynamic, "on_shortage": "train_partial"})
    trainer.train()
    assert len(records(trainer)) == 3
    for record in records(trainer):
        assert record["completions/frac_distinct"] == pytest.approx(0.5)
        assert record["completions/frac_copied"] == pytest.approx(0.5)
    assert "50.0% of the completions are copies of another one" in trainer.alarms.message


def test_short_answers_that_are_equal_raise_none(make, monkeypatch):
    """A single token of four nats comes twice by chance."""
    monkeypatch.setattr(SeededServer, "takes_seeds", False)
    monkeypatch.setattr(SeededServer, "num_tokens", 1)
    trainer = make({"on_shortage": "train_partial"})
    trainer.train()
    for record in records(trainer):
        assert record["completions/frac_distinct"] <= 0.5
        assert record["completions/frac_copied"] == 0
    assert "copies" not in (trainer.alarms.message or "")


def test_without_vllm_distinct_completions_are_counted():
    class Copies:
        """The first two completions of each group are equal."""

        def __call__(self, prompts, trainer):
            completions = [[FIRST_CHARACTER + max(1, i % 4), EOS] for i in range(len(prompts))]
            return {"prompt_ids": [[5]] * len(prompts), "completion_ids": completions, "logprobs": None}

    trainer = train(DAPOTrainer, {"max_steps": 1}, rollout_func=Copies())
    (record,) = records(trainer)
    assert record["completions/frac_distinct"] == 0.75
    assert "completions/frac_copied" not in record
