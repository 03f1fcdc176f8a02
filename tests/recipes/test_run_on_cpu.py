"""The CPU recipes train, shortened and with a random model: everything else is as they say."""

import json

import pytest
from transformers import TrainerState

from dapo_trl.train import main

from ..command import save_model
from .table import RECIPES, ROOT


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("Tiny/arithmetic.yaml", ("problem", "answer")),
        ("SmolLM2-135M-Instruct/gsm8k_lora_cpu.yaml", ("question", "answer")),
    ],
)
def test_trains(name, columns, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    model = save_model(tmp_path / "model")
    problems = [dict(zip(columns, (f"{a}+{b}=", f"#### {a + b}"), strict=True)) for a in range(4) for b in range(5)]
    data = tmp_path / "problems.jsonl"
    data.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    output_dir = tmp_path / "out"
    shorter = {
        "model_name_or_path": model,
        "dataset_name": data,
        "output_dir": output_dir,
        "reward_funcs": "tests.command.starts_low",  # a random model never answers
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 16,
        "max_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    options = [word for field, value in shorter.items() for word in (f"--{field}", str(value))]
    main(["--config", str(RECIPES / name), *options])
    history = TrainerState.load_from_json(str(output_dir / "trainer_state.json")).log_history
    assert [record["step"] for record in history if "loss" in record] == [1, 2]
    assert history[0]["grad_norm"] > 0
