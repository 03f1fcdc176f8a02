"""What is known of a model without loading its weights."""

import io
import json
import os
from pathlib import Path

import pytest
from peft import IA3Config, LoraConfig

from dapo_trl.evaluation.backends.transformers import load_model
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.model import find_model, load_tokenizer, read_metadata, trained_rule, trained_tags
from dapo_trl.evaluation.run import output_dir, prepare
from dapo_trl.run.checkpoint import METADATA
from tests.command import save_model, write_problems


@pytest.fixture
def model(tmp_path) -> str:
    return save_model(tmp_path / "model")


def test_a_whole_model(model):
    files = find_model(model)
    assert (files.base, files.adapter, files.context_window()) == (model, None, 2048)


def test_the_identity_changes_with_the_weights_and_not_with_results(model):
    before = find_model(model).identity()
    os.makedirs(f"{model}/evaluation")
    with open(f"{model}/metrics.jsonl", "w") as file:
        file.write("{}\n")
    assert find_model(model).identity() == before
    os.utime(f"{model}/model.safetensors", ns=(1, 1))
    assert find_model(model).identity() != before


def test_an_adapter_that_is_not_lora(tmp_path):
    IA3Config(base_model_name_or_path="base").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is an adapter of type .*IA3, but only LoRA can be evaluated. Merge"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_no_model(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="is neither a directory with a config.json or adapter_config.json"):
        find_model(str(tmp_path / name))


def test_code_that_comes_with_a_model_runs_only_if_trusted(model, monkeypatch):
    Path(model, "own.py").write_text(
        "from transformers import Qwen2Config, Qwen2ForCausalLM\n"
        "class OwnConfig(Qwen2Config):\n    model_type = 'own'\n"
        "class OwnModel(Qwen2ForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads(Path(model, "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    Path(model, "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": classes}))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))  # Transformers would ask
    with pytest.raises(ValueError, match="trust_remote_code"):
        find_model(model).context_window()
    files = find_model(model, trust_remote_code=True)
    assert files.context_window() == 2048
    assert type(load_model(files, "float32")).__name__ == "OwnModel"


def test_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no tokenizer at .* Give its directory or Hub id with --tok"):
        load_tokenizer(str(tmp_path))


def test_an_adapter_without_a_tokenizer_takes_that_of_its_base(model, tmp_path):
    adapter, data = str(tmp_path / "adapter"), write_problems(tmp_path / "problems.jsonl")
    LoraConfig(base_model_name_or_path=model).save_pretrained(adapter)
    fields = {"prompt_template": "{problem}", "max_completion_length": 8}
    assert prepare(EvaluateConfig(adapter, data, **fields)).tokenizer.name_or_path == model
    load_tokenizer(model).save_pretrained(adapter)
    assert prepare(EvaluateConfig(adapter, data, **fields)).tokenizer.name_or_path == adapter


def test_a_chat_template_of_the_server_around_plain_text_is_warned_of(tmp_path, caplog):
    data, trained = write_problems(tmp_path / "problems.jsonl"), tmp_path / METADATA
    fields = {"server_url": "http://127.0.0.1:9/v1", "server_api": "chat", "like": str(tmp_path)}
    for form, is_warned_of in (("{problem}=", True), ([{"role": "user", "content": "{problem}="}], False)):
        trained.write_text(json.dumps({"answer_rules": {}, "prompt": form}))
        caplog.clear()
        prepare(EvaluateConfig("name", data, **fields))
        assert ("Give --server_api completions to ask as in the training." in caplog.text) is is_warned_of


def test_results_of_a_model_on_the_hub_stand_by_its_name():
    assert output_dir(EvaluateConfig("Qwen/Qwen3-0.6B", "gsm8k")) == Path("outputs/evaluation/Qwen--Qwen3-0.6B")


def test_no_metadata_of_a_name_on_a_server():
    assert read_metadata("name-on-the-server", is_on_hub=False) is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [({"other": "auto-1", "accuracy": "boxed-1"}, "boxed"), ({}, None), ({"mine": "my-rule-3"}, None)],
)
def test_the_rule_of_the_training(rules, expected, tmp_path):
    (tmp_path / METADATA).write_text(json.dumps({"answer_rules": rules}))
    assert trained_rule(read_metadata(str(tmp_path))) == expected
    assert trained_rule(None) is None


def test_the_thinking_tags_of_the_training():
    tags = {"other": ["<a>", "</a>"], "accuracy": ["<t>", "</t>"]}
    assert trained_tags({"thinking_tags": tags}) == ["<t>", "</t>"]
    assert trained_tags({"thinking_tags": {"mine": None, "other": ["<a>", "</a>"]}}) == ["<a>", "</a>"]
    assert trained_tags({"thinking_tags": {"accuracy": None}}) is trained_tags({}) is trained_tags(None) is None


def test_a_rule_that_changed_since(caplog):
    assert trained_rule({"answer_rules": {"accuracy": "auto-0"}}) == "auto"
    assert "The model was trained with answer rule auto-0, which is now auto-2." in caplog.text
