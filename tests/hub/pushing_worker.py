"""Runs of the commands against a Hub, all in one process: `python -m tests.hub.pushing_worker <directory>`."""

import json
import logging
import sys
from pathlib import Path

from huggingface_hub import HfApi

from dapo_trl.commands import evaluate, model_card, prepare_data
from dapo_trl.hub import publishing
from dapo_trl.train import main
from tests.command import save_model, write_problems, write_recipe


BASE, DATA = "tester/base", "tester/sums"
BY_STEP = {"hub_revision": "step-{step}", "hub_always_push": True}
LORA = {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}
# Without `hub_always_push`, a push may be left out while another is under way.
RUNS = {
    "whole": {"hub_private_repo": True, "hub_always_push": True, "hub_strategy": "checkpoint"},
    "adapter": {**BY_STEP, **LORA, "model_name_or_path": BASE},
    "flaky": {**BY_STEP, "save_total_limit": 2},
    "refusing": {"hub_strategy": "end"},
    "resumed": {"hub_always_push": True, "max_steps": 2},
}


def run(directory: Path, name: str, **fields) -> str | None:
    """`dapo_trl.train` with pushes; returns what it ended with, None if with success."""
    fields = {"model_name_or_path": str(directory / "model"), "dataset_name": DATA} | RUNS[name] | fields
    fields |= {"push_to_hub": True, "output_dir": str(directory / name), "prompt_template": None}
    fields |= {"warmup_rollouts": 0, "hub_token": "hf_of_the_tests"}
    try:
        main(["--config", write_recipe(directory / "recipe.yaml", fields), "--max_completion_length", "6"])
    except publishing.PushError as error:
        return str(error)


def run_all(directory: Path) -> dict[str, str | None]:
    """Pushes a base model and a data set, then trains on them."""
    save_model(directory / "model")
    HfApi().create_repo(BASE)
    HfApi().upload_folder(repo_id=BASE, folder_path=directory / "model")
    write_problems(directory / "sums.jsonl")
    prepare_data.main(
        ["--source", str(directory / "sums.jsonl"), "--output", DATA, "--prompt_template", "{problem}", "--check"]
    )
    ends = {name: run(directory, name) for name in RUNS}
    evaluate.main(
        ["--model", str(directory / "whole"), "--data", DATA, "--k", "2", "--num_problems", "3"]
        + ["--max_completion_length", "6", "--dtype", "float32"]
    )
    model_card.main(["--run", str(directory / "whole"), "--push"])
    model_card.main(["--run", str(directory / "refusing"), "--push", "--repo_id", "tester/mended", "--private"])
    return ends | {"resumed": run(directory, "resumed", max_steps=3, resume_from_checkpoint=True)}


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    publishing.SECONDS_BETWEEN_ATTEMPTS = (0.1, 0.1)
    ends = run_all(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "ends.json").write_text(json.dumps(ends))
