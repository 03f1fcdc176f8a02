"""Accelerate reads its configurations, and they say what their comments say."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file


ROOT = Path(__file__).resolve().parents[2] / "recipes" / "accelerate_configs"
TYPES = {
    "cpu": ("NO", 1),
    "single_gpu": ("NO", 1),
    "ddp": ("MULTI_GPU", 8),
    "zero2": ("DEEPSPEED", 8),
    "zero3": ("DEEPSPEED", 8),
    "zero3_offload": ("DEEPSPEED", 8),
    "fsdp2": ("FSDP", 8),
}


def test_all_are_tested():
    assert {path.stem for path in ROOT.glob("*.yaml")} == TYPES.keys()


@pytest.mark.parametrize("name", TYPES)
def test_configuration(name):
    config = load_config_from_file(str(ROOT / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes) == TYPES[name]
    if name.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(name[4])
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
