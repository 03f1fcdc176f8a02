"""
Runs the Python code of the README: `python -m tests.docs.quick_start_worker <directory>`.

It is run as it stands, against a Hub that holds small things under the names in it, with settings for a CPU in place
of its own and a reward that a random model gets now and then.
"""

import sys
from pathlib import Path

from datasets import Dataset
from huggingface_hub import HfApi

import dapo_trl
from tests.command import save_model, starts_low
from tests.docs.pages import ROOT, code_blocks
from tests.helpers import CHAT_TEMPLATE, char_tokenizer


MODEL, DATA = "Qwen/Qwen2.5-1.5B-Instruct", "open-r1/DAPO-Math-17k-Processed"
SMALL = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "updates_per_rollout": 2,
    "max_steps": 2,
    "max_oversampling": 1.0,
    "max_rounds": 3,
    "report_to": "none",
}
CARD = """---
configs:
- config_name: all
  data_files:
  - split: train
    path: all/train.parquet
---
"""


def push(directory: Path) -> None:
    """A model and data under the names that the README uses."""
    save_model(directory / "model")
    char_tokenizer(CHAT_TEMPLATE).save_pretrained(directory / "model")
    data = directory / "data"
    (data / "all").mkdir(parents=True)
    (data / "README.md").write_text(CARD)
    rows = {"prompt": [f"{i}+1=" for i in range(20)], "solution": [str(i + 1) for i in range(20)]}
    Dataset.from_dict(rows).to_parquet(data / "all" / "train.parquet")
    for name, folder, kind in ((MODEL, directory / "model", "model"), (DATA, data, "dataset")):
        HfApi().create_repo(name, repo_type=kind)
        HfApi().upload_folder(repo_id=name, folder_path=folder, repo_type=kind)


def main(directory: Path) -> None:
    push(directory)
    (code,) = code_blocks(ROOT / "README.md", "python")
    config_class = dapo_trl.DAPOConfig
    dapo_trl.DAPOConfig = lambda **fields: config_class(**fields | SMALL)
    dapo_trl.accuracy = starts_low
    variables = {}
    exec(code, variables)
    variables["trainer"].save_state()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
