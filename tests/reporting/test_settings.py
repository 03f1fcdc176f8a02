"""Settings of runs: written, read without running code, compared."""

import os
import pickle
from dataclasses import dataclass

import pytest
import torch

from dapo_trl import DAPOConfig
from dapo_trl.reporting.settings import Settings, differing, differing_within, format_value, load_settings
from dapo_trl.run.settings_file import read_settings, write_settings


@dataclass
class Script:
    data: str
    rows: int = 256


def small_config(tmp_path, **fields) -> DAPOConfig:
    common = {"use_cpu": True, "bf16": False, "report_to": "none", "updates_per_rollout": 2, "num_generations": 4}
    return DAPOConfig(output_dir=str(tmp_path), **common | {"per_device_train_batch_size": 4} | fields)


def test_settings_and_defaults_are_written_without_tokens(tmp_path):
    write_settings(tmp_path, Script("sums"), small_config(tmp_path, hub_token="hf_secret"))
    assert "hf_secret" not in (tmp_path / "settings.json").read_text()
    values, defaults = read_settings(tmp_path)
    assert (values["data"], defaults["data"], values["rows"], defaults["rows"]) == ("sums", None, 256, 256)
    assert (values["num_generations"], defaults["num_generations"]) == (4, 16)
    assert read_settings(tmp_path / "elsewhere") is None


def test_tokens_are_left_out_of_dictionaries(tmp_path):
    write_settings(tmp_path, small_config(tmp_path, model_init_kwargs={"token": "hf_secret", "revision": "main"}))
    values, _ = read_settings(tmp_path)
    assert values["model_init_kwargs"] == {"token": "not-published", "revision": "main"}


def test_chosen_are_those_that_are_not_the_default(tmp_path):
    write_settings(tmp_path, Script("sums"), small_config(tmp_path, hub_token="hf_secret"))
    chosen = load_settings(tmp_path).chosen()
    assert {name: chosen[name] for name in ("data", "num_generations", "updates_per_rollout")} == {
        "data": "sums",
        "num_generations": "4",
        "updates_per_rollout": "2",
    }
    assert not {"rows", "hub_token", "output_dir", "steps_per_generation", "epsilon_high"} & set(chosen)


@pytest.mark.parametrize("text", ['{"settings": {}', "[1]", '{"beta": 0.0}'])
def test_damaged_settings_are_an_error(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match="settings.json is damaged .* training_args.bin"):
        read_settings(tmp_path)


def test_training_arguments_of_a_checkpoint_are_read(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    torch.save(small_config(tmp_path, epsilon_high=0.3), tmp_path / "checkpoint-2" / "training_args.bin")
    settings = load_settings(tmp_path)
    assert settings.values["epsilon_high"] == 0.3
    assert settings.optimizer_steps_per_rollout == 2
    assert Settings().optimizer_steps_per_rollout is None


def test_code_in_training_arguments_is_not_run(tmp_path, caplog):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save(Evil(), tmp_path / "training_args.bin")
    assert load_settings(tmp_path) == Settings()
    assert "the settings of this run are unknown" in caplog.text
    assert not (tmp_path / "evil").exists()
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / "evil").exists()  # the file would have done it


def test_what_is_no_training_arguments_is_unknown(tmp_path, caplog):
    torch.save({"beta": 0.0}, tmp_path / "training_args.bin")
    assert load_settings(tmp_path) == Settings()
    assert "holds no training arguments" in caplog.text


def test_differing_settings():
    dapo = [Settings({"epsilon_high": 0.28, "beta": 0.0, "seed": seed, "new": True}) for seed in (0, 1)]
    grpo = [Settings({"epsilon_high": 0.2, "beta": 0.0, "seed": 0})]
    assert differing([dapo, grpo, [Settings()]]) == {
        "epsilon_high": ["0.28", "0.2", "unknown"],
        "new": ["true", "null", "unknown"],
    }


def test_seeds_that_differ_in_more_than_their_seed():
    assert differing_within([Settings({"seed": 0, "beta": 0.0}), Settings({"seed": 1, "beta": 0.1})]) == ["beta"]
    assert differing_within([Settings({"seed": 0, "beta": 0.0}), Settings({"seed": 1, "beta": 0.0}), Settings()]) == []


def test_values_read_as_in_a_recipe():
    values = [None, True, 1e-6, 5, "x", [1.0, 0.5], {"dtype": "float32", "revision": None}]
    texts = ["null", "true", "1e-06", "5", "x", "1, 0.5", "dtype: float32"]
    assert [format_value(value) for value in values] == texts
