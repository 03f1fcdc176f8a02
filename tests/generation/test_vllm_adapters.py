"""
Adapters reach the server merged, and the base weights stay what they were, bit for bit.

Everything is received as vLLM's client does it, which copies what it was handed after all of it was handed out.
"""

import contextlib

import pytest
import torch
from accelerate import Accelerator
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    get_peft_model,
)
from peft.tuners.lora import Linear
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.reductions import StorageWeakRef
from trl.generation.vllm_generation import VLLMGeneration

from dapo_trl.generation.vllm.adapters import check_adapters, merged_params, restored_base_weights
from tests.helpers import largest_difference, tiny_model
from tests.packed_transfer import receive_packed
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
KINDS = {
    "lora": (True, LoraConfig(r=4, target_modules=LINEAR)),
    "lora, untied": (False, LoraConfig(r=4, target_modules=LINEAR)),
    "rslora": (True, LoraConfig(r=4, target_modules=LINEAR, use_rslora=True)),
    "dora": (True, LoraConfig(r=4, target_modules=LINEAR, use_dora=True)),
    "dora of the embedding": (False, LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], use_dora=True)),
    "bias": (True, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_bias=True)),
    "all biases": (True, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all")),
    "embedding and head": (False, LoraConfig(r=4, target_modules=["embed_tokens", "lm_head", "q_proj"])),
    "embedding and head, tied": (True, LoraConfig(r=4, target_modules=["embed_tokens"], ensure_weight_tying=True)),
    "saved norm": (True, LoraConfig(r=4, target_modules=LINEAR, modules_to_save=["norm"])),
    "saved embedding": (False, LoraConfig(r=4, target_modules=LINEAR, modules_to_save=["embed_tokens"])),
    "saved head": (False, LoraConfig(r=4, target_modules=LINEAR, modules_to_save=["lm_head"])),
    "saved embedding and head, tied": (
        True,
        LoraConfig(r=4, target_modules=LINEAR, modules_to_save=["lm_head"], ensure_weight_tying=True),
    ),
    "parameters": (True, LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["k_proj.weight"])),
    "tokens": (True, LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[3, 5, 20])),
    "tokens, untied": (False, LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[3, 5, 20])),
    "tokens alone": (True, TrainableTokensConfig(token_indices=[3, 5, 20])),
    "adalora": (True, AdaLoraConfig(target_modules=LINEAR, total_step=10)),
    "ia3": (True, IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "loha": (True, LoHaConfig(r=4, target_modules=LINEAR)),
    "oft": (True, OFTConfig(r=0, oft_block_size=4, target_modules=LINEAR)),
    "norms": (True, LNTuningConfig(target_modules=["input_layernorm", "norm"])),
}
"""Whether embeddings and head are tied, and the adapters."""
TRAINED_APART = {
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
    "embedding and head": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "saved embedding and head": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
}


def adapted_model(dtype: torch.dtype = torch.bfloat16, is_tied: bool = True, peft_config=None, **config):
    """A tiny model with adapters that do something."""
    peft_config = peft_config or LoraConfig(r=4, **config)
    model = get_peft_model(tiny_model(dtype=dtype, tie_word_embeddings=is_tied), peft_config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def no_gather(parameters):
    return contextlib.nullcontext()


def sent(model, **options) -> dict[str, torch.Tensor]:
    metadata = [(name, str(value.dtype)[6:], list(value.shape)) for name, value in merged_params(model, no_gather)]
    return receive_packed(metadata, merged_params(model, no_gather), **options)


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


@pytest.mark.parametrize("buffer_size", [1024**3, 20_000], ids=["one buffer", "many buffers"])
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_what_is_sent_loads_into_the_base_model_and_computes_the_same(config, buffer_size):
    is_tied, peft_config = config
    model = adapted_model(torch.float32, is_tied, peft_config).eval()
    check_adapters(model, "server")
    assert_computes_the_same(model, is_tied, sent(model, buffer_size=buffer_size))


def assert_computes_the_same(model, is_tied: bool, received: dict[str, torch.Tensor]) -> None:
    """The weights are all that a base model has, and with them it computes what the adapted one does."""
    plain, ids = tiny_model(seed=5, tie_word_embeddings=is_tied).eval(), torch.arange(3, 30)[None]
    assert list(received) == [name for name, _ in plain.named_parameters()]
    plain.load_state_dict(received, strict=False)
    with torch.no_grad(), model.disable_adapter():
        without = model(ids).logits
    with torch.no_grad():
        expected, actual = model(ids).logits, plain(ids).logits
    assert largest_difference(actual, expected) < 1e-5
    assert largest_difference(without, expected) > 1e-3


def test_a_second_adapter_is_not_sent():
    """TRL adds a copy of the adapter as the reference, and trained copies of modules come with it."""
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"])
    model = adapted_model(torch.float32, peft_config=config).eval()
    model.add_adapter("ref", config)
    assert_computes_the_same(model, True, sent(model))


def test_adapters_of_one_module_add_up():
    model = adapted_model(torch.float32, target_modules=LINEAR).eval()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    first = sent(model)
    model.base_model.set_adapter(["default", "second"])
    both = sent(model)
    assert_computes_the_same(model, True, both)
    changed = [name for name in both if not torch.equal(both[name], first[name])]
    assert changed == [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)]


def test_what_the_receiver_lets_go_of_is_freed():
    """So that more than vLLM's buffer and a layer is never held."""
    model = adapted_model(target_modules=LINEAR)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    handed_out = []
    for _, value in merged_params(model, no_gather):
        assert all(reference.expired() for reference in handed_out)
        if value.data_ptr() not in own:
            handed_out.append(StorageWeakRef(value.untyped_storage()))
        del value
    assert len(handed_out) == 20  # seven weights and three biases in each of two blocks


@pytest.mark.parametrize("config", TRAINED_APART.values(), ids=TRAINED_APART)
@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_adapters_that_part_tied_embeddings_are_refused(config, mode):
    with pytest.raises(ValueError, match="tie_word_embeddings is true.*ensure_weight_tying=True"):
        check_adapters(adapted_model(**config), mode)
    check_adapters(adapted_model(is_tied=False, **config), mode)


def test_adapters_that_are_no_weights_are_refused():
    model = get_peft_model(tiny_model(), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(ValueError, match="PromptTuningConfig cannot be merged.*use_vllm to false"):
        check_adapters(model, "server")


def test_layers_that_cannot_be_merged_are_refused(monkeypatch):
    monkeypatch.delattr(Linear, "merge")
    with pytest.raises(ValueError, match="kind Linear cannot be merged"):
        check_adapters(adapted_model(target_modules=["q_proj"]), "server")


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


# Sharded models (more of them in tests/distributed)


@pytest.fixture
def alone():
    """A process group of this process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("is_adapted", [True, False])
def test_one_process_of_fsdp_hands_out_no_views_of_its_own_shard(alone, is_adapted):
    """Its shard is the whole weight, which is not copied when it is gathered, and is unmerged at the end."""
    config = {"target_modules": LINEAR, "modules_to_save": ["norm"]}
    model = adapted_model(torch.float32, **config) if is_adapted else tiny_model()
    expected = sent(model) if is_adapted else {name: value.clone() for name, value in model.named_parameters()}
    generation, recorder = recording_generation("server", model, Accelerator(cpu=True))
    generation._dist.fsdp_version = 2
    fully_shard(model)
    generation.sync_weights()
    assert recorder.received.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(recorder.received[name], value.data, rtol=0, atol=1e-6)
    own = {parameter.to_local().data_ptr() for parameter in model.parameters()}
    assert not own & {value.data_ptr() for _, value in list(generation._iter_named_params())}


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
