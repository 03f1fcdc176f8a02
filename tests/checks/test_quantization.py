"""Recipes with a quantized base model: refused before anything is loaded if they cannot train."""

import pytest
from transformers.integrations import HfDeepSpeedConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import ModelConfig

from dapo_trl import DAPOConfig
from dapo_trl.checks import model
from dapo_trl.checks.model import check_quantization
from dapo_trl.train import main

from ..command import save_model, write_problems, write_recipe


@pytest.fixture(autouse=True)
def bitsandbytes(monkeypatch):
    """Installed, whether it is or not: nothing here quantizes anything."""
    monkeypatch.setattr(model, "is_bitsandbytes_available", lambda: True)


@pytest.fixture
def deepspeed():
    """Sets DeepSpeed up as a launcher does, at the given stage of ZeRO."""
    in_force = []
    yield lambda stage: in_force.append(HfDeepSpeedConfig({"zero_optimization": {"stage": stage}}))
    unset_hf_deepspeed_config()


def check(bf16: bool = True, fp16: bool = False, **model_fields) -> None:
    args = DAPOConfig("unused", use_cpu=True, bf16=bf16, fp16=fp16, balance_micro_batches=False)
    check_quantization(args, ModelConfig(**{"use_peft": True, "dtype": "bfloat16"} | model_fields))


EITHER = pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])


@EITHER
def test_what_is_accepted(name, deepspeed):
    check(**{name: True})
    check(bf16=False, fp16=True, dtype="float16", **{name: True})
    check(bf16=False, dtype="float32", **{name: True})
    check(load_in_8bit=True, dtype="float32")  # 8-bit weights are not unpacked
    deepspeed(2)
    check(**{name: True})


def test_a_model_that_is_not_quantized_may_be_anything(monkeypatch):
    monkeypatch.setattr(model, "is_bitsandbytes_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check(use_peft=False, dtype="auto")


@EITHER
def test_only_adapters_can_be_trained(name):
    with pytest.raises(ValueError, match=f"{name}=True with use_peft=False: .* Set use_peft to true, or {name} to"):
        check(use_peft=False, **{name: True})


@EITHER
def test_bitsandbytes_must_be_installed(monkeypatch, name):
    monkeypatch.setattr(model, "is_bitsandbytes_available", lambda: False)
    message = rf"{name}=True needs bitsandbytes.*pip install -U 'dapo_trl\[quantization\]'"
    with pytest.raises(ImportError, match=message):
        check(**{name: True})


def test_the_weights_must_not_be_spread(deepspeed, monkeypatch):
    deepspeed(3)
    with pytest.raises(ValueError, match="load_in_4bit=True cannot be combined with DeepSpeed ZeRO-3.*zero2.yaml"):
        check(load_in_4bit=True)
    unset_hf_deepspeed_config()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="load_in_8bit=True cannot be combined with FSDP.*ddp.yaml"):
        check(load_in_8bit=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"dtype": "float32"},
            "dtype='float32' .* bf16=True: .* in bfloat16. Set dtype to 'bfloat16', or bf16 to false",
        ),
        ({"bf16": False, "fp16": True}, "dtype='bfloat16' .* fp16=True: .* Set dtype to 'float16'"),
        ({"dtype": "auto"}, "dtype='auto' with load_in_4bit=True: .* must be named. Set dtype to 'bfloat16'"),
        ({"dtype": None, "bf16": False}, "dtype=None with load_in_4bit=True: .* must be named"),
    ],
)
def test_4_bit_weights_are_unpacked_to_the_type_of_the_training(fields, message):
    with pytest.raises(ValueError, match=message):
        check(load_in_4bit=True, **fields)


def test_the_command_refuses_before_it_loads_anything(tmp_path):
    fields = {
        "model_name_or_path": save_model(tmp_path / "model"),
        "dataset_name": write_problems(tmp_path / "problems.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "load_in_4bit": True,
    }
    with pytest.raises(ValueError, match="load_in_4bit=True with use_peft=False"):
        main(["--config", write_recipe(tmp_path / "recipe.yaml", fields)])
