"""
vLLM in the trainer's process: every round generates with the trainer's weights, also after vLLM has slept.

TRL's code and ours run as they are. What a CPU cannot do is vLLM itself: an engine that generates at random stands for
it, and as vLLM does, it loses its weights when it is put to sleep at level 2.
"""

import contextlib
import os
import random
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from peft import LoraConfig
from trl.generation import vllm_generation

from dapo_trl import DAPOTrainer
from dapo_trl.generation.vllm.adapters import merged_params
from tests.helpers import EOS, FIRST_CHARACTER, VOCABULARY, build, largest_difference


SEVERAL_ROUNDS = {"max_oversampling": 1.0, "updates_per_rollout": 2, "max_steps": 6, "learning_rate": 1e-2}
"""Three rollouts; about a fifth of the groups is not informative."""


class Engine:
    """
    Stands for `vllm.LLM`, and for the model inside.

    Attributes:
        syncs, rounds (`int`): how often weights were loaded, and completions asked for.
        errors (`list[float]`): for each round, how far the weights were from `expected()`.
    """

    def __init__(self, enable_sleep_mode: bool, **kwargs):
        self.weights, self.syncs, self.errors = {}, 0, []
        self.awake = set() if enable_sleep_mode else {"weights", "kv_cache"}
        self.random = random.Random(0)
        runner = SimpleNamespace(model_runner=SimpleNamespace(model=self))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))

    def sleep(self, level: int) -> None:
        assert level == 2
        self.weights.clear()
        self.awake.clear()

    def wake_up(self, tags: list[str]) -> None:
        self.awake.update(tags)

    def load_weights(self, weights) -> None:
        assert "weights" in self.awake
        for name, value in weights:
            self.weights[name] = value.clone()
            self.syncs += name == "model.embed_tokens.weight"

    def reset_prefix_cache(self) -> None:
        pass

    def generate(self, prompts, sampling_params, use_tqdm):
        assert self.awake == {"weights", "kv_cache"}
        expected = self.expected()
        assert self.weights.keys() == expected.keys()
        self.errors.append(max(largest_difference(self.weights[name], expected[name]) for name in expected))
        return [self._answer(prompt["prompt_token_ids"]) for prompt in prompts]

    def _answer(self, prompt_ids: list[int]) -> SimpleNamespace:
        ids = [self.random.randrange(FIRST_CHARACTER, len(VOCABULARY)), EOS]
        logprobs = [{token: SimpleNamespace(rank=1, logprob=-4.0)} for token in ids]
        return SimpleNamespace(
            prompt_token_ids=prompt_ids, outputs=[SimpleNamespace(token_ids=ids, logprobs=logprobs)]
        )


@pytest.fixture
def colocated(monkeypatch):
    """Makes a trainer with an engine."""
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    for name, stand_in in {"LLM": Engine, "SamplingParams": SimpleNamespace}.items():
        monkeypatch.setattr(vllm_generation, name, stand_in, raising=False)

    def make(is_sleeping: bool, peft_config: LoraConfig | None = None) -> DAPOTrainer:
        config = {"use_vllm": True, "vllm_mode": "colocate", "vllm_enable_sleep_mode": is_sleeping}
        trainer = build(DAPOTrainer, SEVERAL_ROUNDS | config, rollout_func=None, peft_config=peft_config)
        trainer.vllm_generation.llm.expected = lambda: weights_of(trainer.model)
        return trainer

    with mock.patch.dict(os.environ):  # TRL sets variables that would make later trainers distributed
        yield make


def weights_of(model) -> dict[str, torch.Tensor]:
    """What vLLM should hold."""
    if hasattr(model, "peft_config"):
        return {
            name: value.clone() for name, value in merged_params(model, lambda parameters: contextlib.nullcontext())
        }
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=4, target_modules="all-linear")], ids=["full", "lora"])
@pytest.mark.parametrize("is_sleeping", [True, False], ids=["sleeping", "awake"])
def test_every_round_has_the_weights_of_its_time(colocated, is_sleeping, peft_config):
    trainer = colocated(is_sleeping, peft_config)
    before = weights_of(trainer.model)
    trainer.train()
    engine = trainer.vllm_generation.llm
    records = [record for record in trainer.state.log_history if "dynamic_sampling/rounds" in record]
    rounds = [record["dynamic_sampling/rounds"] for record in records]
    assert len(rounds) == 3 and len(engine.errors) == sum(rounds) > 3
    assert max(engine.errors) == 0
    # Sleeping at level 2 throws the weights away: every round needs them again.
    assert engine.syncs == (sum(rounds) if is_sleeping else 3)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert largest_difference(weights_of(trainer.model)[name], before[name]) > 1e-3


def test_sending_weights_is_a_phase_of_its_own(colocated):
    """Although it happens inside of generation."""
    trainer = colocated(is_sleeping=False)
    engine, clock = trainer.vllm_generation.llm, [0.0]
    trainer.monitor.timer._clock = lambda: clock[0]
    load_weights = engine.load_weights

    def slow(weights):
        syncs = engine.syncs
        load_weights(weights)
        clock[0] += 7 * (engine.syncs - syncs)

    engine.load_weights = slow
    trainer.train()
    records = [record for record in trainer.state.log_history if "time/rollout" in record]
    assert [record["time/weight_sync"] for record in records] == [7, 7, 7]
    assert [record["time/generation"] for record in records] == [0, 0, 0]


def test_a_second_train_sends_its_weights(colocated):
    """Both runs begin at step 0, and what was sent at step 0 is old."""
    trainer = colocated(is_sleeping=False)
    trainer.args.max_steps = 2  # one rollout
    trainer.train()
    trainer.train()
    engine = trainer.vllm_generation.llm
    assert engine.syncs == 2
    assert max(engine.errors) == 0
