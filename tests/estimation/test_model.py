"""Parameters of the recipes' models, counted and published."""

import pytest
from peft import LoraConfig
from transformers import LlamaConfig
from trl import ModelConfig

from dapo_trl import DAPOConfig
from dapo_trl.estimation.model import ModelSize, load_config, measure, model_size


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")


def tiny(**fields) -> LlamaConfig:
    shape = {
        "vocab_size": 100,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return LlamaConfig(**shape | fields)


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-Math-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
    ],
)
def test_parameters_of_the_published_weights(name, num_parameters):
    assert measure(load_config(name)).num_parameters == num_parameters


@pytest.mark.parametrize(
    ("name", "billions_without_embeddings", "kv_bytes"),
    [
        ("Qwen/Qwen3-0.6B", 0.44, 28 * 2 * 8 * 128 * 2),
        ("Qwen/Qwen2.5-1.5B", 1.31, 28 * 2 * 2 * 128 * 2),
        ("Qwen/Qwen2.5-7B", 6.53, 28 * 2 * 4 * 128 * 2),
        ("Qwen/Qwen2.5-32B", 31.0, 256 * 1024),
    ],
)
def test_model_cards(name, billions_without_embeddings, kv_bytes):
    size = measure(load_config(name))._replace(computed_bytes=2)
    assert (size.num_parameters - size.num_embedding) / 1e9 == pytest.approx(billions_without_embeddings, rel=0.01)
    assert size.kv_bytes_per_token == kv_bytes


def test_keys_and_values_as_published():
    """The PagedAttention paper (arXiv 2309.06180, Sec. 3): 800 KB for a token of OPT-13B: 2 x 5120 x 40 x 2 bytes."""
    of_opt = tiny(hidden_size=5120, num_attention_heads=40, num_key_value_heads=40, num_hidden_layers=40)
    assert measure(of_opt)._replace(computed_bytes=2).kv_bytes_per_token == 800 * 1024


def test_heads_may_be_wider_than_their_share():
    size = measure(load_config("Qwen/Qwen3-0.6B"))
    assert (size.head_dim, size.query_width, size.config.hidden_size) == (128, 2048, 1024)


def test_parameters_by_hand():
    size = measure(tiny(tie_word_embeddings=False))
    projections = 3 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16)
    norms = 3 * 2 * 8 + 8
    assert size.num_projections == projections
    assert size.num_embedding == 2 * 100 * 8
    assert size.num_parameters == projections + norms + 2 * 100 * 8
    assert size.num_multiplied == projections + norms + 100 * 8
    assert size.num_trained == size.num_parameters and not size.has_adapters


def test_tied_embeddings_count_once_but_the_head_is_multiplied():
    size = measure(tiny(tie_word_embeddings=True))
    assert size.num_embedding == 100 * 8
    assert size.num_multiplied == size.num_parameters


def test_adapters_by_hand():
    size = measure(tiny(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    assert size.num_trained == 3 * 2 * ((8 + 8) + (16 + 8))
    assert size.has_adapters
    assert size.num_parameters == measure(tiny()).num_parameters


# The model of a recipe


@pytest.fixture
def name(tmp_path) -> str:
    tiny().save_pretrained(tmp_path)
    return str(tmp_path)


def size_of(name: str | None, bf16: bool = False, **fields) -> ModelSize:
    args = DAPOConfig(use_cpu=True, bf16=bf16, output_dir="out", model_init_kwargs=fields.pop("init", None))
    return model_size(ModelConfig(name, **fields), args)


def test_a_local_model_and_the_recipe_s_adapters(name):
    lora = {"use_peft": True, "lora_target_modules": ["q_proj", "down_proj"]}
    assert size_of(name, lora_r=2, **lora).num_trained == 3 * 2 * ((8 + 8) + (16 + 8))
    assert size_of(name, lora_r=4, **lora).num_trained == 3 * 4 * ((8 + 8) + (16 + 8))
    assert not size_of(name).has_adapters


@pytest.mark.parametrize(
    ("fields", "weight_bytes", "computed_bytes"),
    [
        ({}, 4, 4),
        ({"bf16": True}, 4, 2),
        ({"dtype": "bfloat16"}, 2, 4),
        ({"dtype": "auto"}, 4, 4),  # as it is stored
        ({"dtype": "bfloat16", "init": {"dtype": "float32"}}, 4, 4),
    ],
)
def test_precision(name, fields, weight_bytes, computed_bytes):
    size = size_of(name, **fields)
    assert (size.weight_bytes, size.computed_bytes, size.is_quantized) == (weight_bytes, computed_bytes, False)


@pytest.mark.parametrize(
    ("fields", "bits"),
    [
        ({"load_in_8bit": True}, 8),
        # QLoRA (arXiv 2305.14314, Sec. 3): 0.5 bits per parameter for the scales, nested 0.127
        ({"load_in_4bit": True}, 4.5),
        ({"load_in_4bit": True, "use_bnb_nested_quant": True}, 4 + 8 / 64 + 32 / (64 * 256)),
    ],
)
def test_quantized(name, fields, bits):
    assert size_of(name, use_peft=True, **fields).projection_bytes == pytest.approx(bits / 8)


def test_a_model_that_is_not_named_or_cannot_be_found(tmp_path):
    with pytest.raises(ValueError, match="model_name_or_path is not set. Set it to a model id on the Hub or a local"):
        size_of(None)
    with pytest.raises(ValueError, match="is no directory with a config.json here, and the Hub did not give one. Set"):
        size_of(str(tmp_path / "none"))
