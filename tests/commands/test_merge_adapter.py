"""What a LoRA run leaves behind: an adapter that loads with PEFT, and a merged model on request."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapo_trl import DAPOTrainer
from dapo_trl.commands.merge_adapter import main

from ..helpers import char_tokenizer, tiny_model, train


IDS = torch.arange(10, 40)[None]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def run(request, tmp_path_factory):
    """A LoRA run with checkpoints, and the directory of its base model."""
    directory = tmp_path_factory.mktemp("run")
    base = str(directory / "base")
    tiny_model(dtype=getattr(torch, request.param)).save_pretrained(base)
    config = {
        "output_dir": str(directory / "out"),
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "model_init_kwargs": {"dtype": request.param},
    }
    peft_config = LoraConfig(r=4, target_modules="all-linear")
    return train(DAPOTrainer, config, model=base, peft_config=peft_config), base


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def test_checkpoints_hold_the_adapter_alone(run):
    trainer, base = run
    for step in (2, 4):
        checkpoint = Path(trainer.args.output_dir, f"checkpoint-{step}")
        assert json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"] == base
        assert (checkpoint / "adapter_model.safetensors").exists()
        assert not (checkpoint / "model.safetensors").exists()


def test_a_checkpoint_on_the_base_model_computes_what_the_trainer_does(run):
    trainer, base = run
    model = AutoModelForCausalLM.from_pretrained(base)
    before = logits(model)
    loaded = PeftModel.from_pretrained(model, f"{trainer.args.output_dir}/checkpoint-4")
    assert torch.equal(logits(loaded), logits(trainer.model))
    assert (logits(loaded) - before).abs().max() > 0.01


def test_the_base_weights_have_not_changed(run):
    trainer, base = run
    stored = AutoModelForCausalLM.from_pretrained(base).state_dict()
    for name, value in trainer.model.get_base_model().state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, stored[name.replace(".base_layer", "")])


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_merged_model(run, dtype, tmp_path, capsys):
    """Also in another type, and with a base model that has moved."""
    trainer, base = run
    output, options = str(tmp_path / "merged"), []
    if dtype != "auto":
        AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "moved")
        options = ["--base", str(tmp_path / "moved"), "--dtype", dtype]
    main(["--adapter", f"{trainer.args.output_dir}/checkpoint-4", "--output", output, *options])
    merged = AutoModelForCausalLM.from_pretrained(output)
    assert merged.dtype == (AutoModelForCausalLM.from_pretrained(base).dtype if dtype == "auto" else torch.float32)
    tolerance = 1e-5 if trainer.model.dtype == torch.float32 else 0.05
    torch.testing.assert_close(logits(merged), logits(trainer.model), rtol=0, atol=tolerance)
    assert AutoTokenizer.from_pretrained(output).vocab_size == char_tokenizer().vocab_size
    assert output in capsys.readouterr().out


# What is refused


@pytest.fixture
def adapter(run) -> str:
    return f"{run[0].args.output_dir}/checkpoint-4"


def test_no_adapter(run, tmp_path):
    with pytest.raises(ValueError, match="--adapter .*/base holds no adapter: there is no adapter_config.json"):
        main(["--adapter", run[1], "--output", str(tmp_path)])


def test_the_output_is_neither_the_adapter_nor_the_base_model(run, adapter):
    with pytest.raises(ValueError, match="--output .* is the directory of the adapter. Give another one"):
        main(["--adapter", adapter, "--output", adapter])
    with pytest.raises(ValueError, match="--output .* is the directory of the base model. Give another one"):
        main(["--adapter", adapter, "--output", run[1]])
    assert not Path(adapter, "model.safetensors").exists()


def test_no_base_model(adapter, tmp_path):
    with pytest.raises(ValueError, match=r"base model '.*/gone'.*cannot be loaded. Say with --base where it is"):
        main(["--adapter", adapter, "--output", str(tmp_path / "merged"), "--base", str(tmp_path / "gone")])


def test_a_base_model_that_is_stored_quantized(run, adapter, tmp_path):
    quantized = tmp_path / "quantized"
    config = json.loads(Path(run[1], "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    quantized.mkdir()
    (quantized / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'.*/quantized' is stored quantized.*made from with --base"):
        main(["--adapter", adapter, "--output", str(tmp_path / "merged"), "--base", str(quantized)])
