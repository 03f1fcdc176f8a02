"""Adapters reach the server merged, and the base weights stay what they were, bit for bit."""

import contextlib

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl.generation.vllm_generation import VLLMGeneration

from dapo_trl.vllm.adapters import merged_params, restored_base_weights
from tests.helpers import tiny_model
from tests.recording_vllm import recording_generation


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = {
    "lora": {"target_modules": LINEAR},
    "dora": {"target_modules": LINEAR, "use_dora": True},
    "bias": {"target_modules": ["q_proj", "v_proj"], "lora_bias": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "saved modules": {"target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    "parameters": {"target_modules": ["q_proj"], "target_parameters": ["k_proj.weight", "v_proj.weight"]},
}


def adapted_model(dtype: torch.dtype = torch.bfloat16, is_tied: bool = True, **config):
    """A tiny model with adapters that do something."""
    model = get_peft_model(tiny_model(dtype=dtype, tie_word_embeddings=is_tied), LoraConfig(r=4, **config))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def no_gather(parameters):
    return contextlib.nullcontext()


def sent(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in merged_params(model, no_gather)}


def trl_generation(model) -> VLLMGeneration:
    """TRL's class with as much of it as walking the parameters needs."""
    generation = object.__new__(VLLMGeneration)
    generation.model, generation.accelerator = model, Accelerator(cpu=True)
    generation._dist = type("Dist", (), {"is_fsdp": False, "gather_params": staticmethod(no_gather)})()
    return generation


def base_weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if "lora_" not in name}


def drift(model, before: dict[str, torch.Tensor]) -> float:
    """Mean absolute change of the base weights over their mean absolute value."""
    now = base_weights(model)
    change = sum((now[name].float() - before[name].float()).abs().sum() for name in before)
    return (change / sum(value.float().abs().sum() for value in before.values())).item()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("is_tied", [True, False])
def test_what_is_sent_is_what_trl_sends(config, is_tied):
    model = adapted_model(torch.float32, is_tied, **config)
    expected = {name: value.clone() for name, value in trl_generation(model)._iter_named_params()}
    actual = sent(model)
    assert list(actual) == list(expected)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-6)


def test_what_is_sent_loads_into_the_base_model_and_computes_the_same():
    model = adapted_model(torch.float32, target_modules=LINEAR)
    plain = tiny_model(seed=5)
    plain.load_state_dict(sent(model), strict=False)
    ids = torch.arange(10, 30)[None]
    torch.testing.assert_close(plain(ids).logits, model(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_base_weights_in_bfloat16_are_bit_equal_after_many_calls(config):
    model = adapted_model(**config)
    before = base_weights(model)
    for _ in range(20):
        for _ in merged_params(model, no_gather):
            pass
    after = base_weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(layer.merged for layer in model.modules() if hasattr(layer, "merged"))


def test_merging_into_the_base_model_drifts():
    """Without which the tests above would show nothing; and the copy that sharded models keep prevents it too."""
    model = adapted_model(target_modules=LINEAR)
    before, generation = base_weights(model), trl_generation(model)
    for _ in range(100):
        with restored_base_weights(model):
            list(generation._iter_named_params())
    assert drift(model, before) == 0
    for _ in range(100):
        list(generation._iter_named_params())
    print(f"drift after 100 syncs {drift(model, before)}")  # noqa: T201
    assert drift(model, before) > 1e-3


def test_base_weights_survive_a_walk_that_is_broken_off():
    model = adapted_model(target_modules=LINEAR)
    before = base_weights(model)
    walk = merged_params(model, no_gather)
    while "q_proj" not in next(walk)[0]:
        pass
    walk.close()
    assert drift(model, before) == 0


def test_only_one_layer_is_gathered_at_a_time():
    """A sharded model must never be whole on one device."""
    gathered = []

    @contextlib.contextmanager
    def gather(parameters):
        gathered.append(sum(parameter.numel() for parameter in parameters))
        yield

    model = adapted_model(target_modules=LINEAR)
    for _ in merged_params(model, gather):
        pass
    assert max(gathered) < 0.5 * sum(parameter.numel() for parameter in model.parameters())


# Through the generation of both modes, as far as a CPU can


@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_100_syncs_leave_the_base_weights_alone(mode):
    model = adapted_model(target_modules=LINEAR)
    generation, recorder = recording_generation(mode, model, Accelerator(cpu=True))
    before, expected = base_weights(model), sent(model)
    for _ in range(100):
        generation.sync_weights()
    assert drift(model, before) == 0
    assert all(torch.equal(base_weights(model)[name], before[name]) for name in before)
    assert recorder.received.keys() == expected.keys()
    assert all(torch.equal(recorder.received[name], expected[name]) for name in expected)
