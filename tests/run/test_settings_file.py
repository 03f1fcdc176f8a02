"""Settings of a run: written, read, without secrets."""

from dataclasses import dataclass

import pytest

from dapo_trl import DAPOConfig
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


@pytest.mark.parametrize("text", ['{"settings": {}', "[1]", '{"beta": 0.0}'])
def test_damaged_settings_are_an_error(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match="settings.json is damaged .* Remove it: the settings of this run are then"):
        read_settings(tmp_path)
