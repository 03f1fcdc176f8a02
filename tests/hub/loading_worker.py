"""
Loads what was pushed, with an empty cache: `python -m tests.hub.loading_worker <directory of the runs>`.

Prints what it finds as JSON.
"""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapo_trl.evaluation.model import read_metadata
from tests.helpers import weights


def run_quick_start(card: ModelCard) -> dict:
    """Runs the card's Python code; returns its variables, and what it printed as `printed`."""
    code = re.search(r"```python\n(.*?)```", card.content, re.DOTALL)[1]
    variables, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, variables)
    return variables | {"printed": printed.getvalue()}


def load_all(directory: Path) -> dict:
    """Compares with what the runs left on disk."""
    whole = AutoModelForCausalLM.from_pretrained("tester/whole")
    local = AutoModelForCausalLM.from_pretrained(directory / "whole")
    adapters = [AutoPeftModelForCausalLM.from_pretrained("tester/adapter", revision=f"step-{k}") for k in (1, 3)]
    local_adapters = [AutoPeftModelForCausalLM.from_pretrained(directory / f"adapter/checkpoint-{k}") for k in (1, 3)]
    resume = AutoModelForCausalLM.from_pretrained("tester/whole", subfolder="last-checkpoint")
    starts = [run_quick_start(ModelCard.load(name)) for name in ("tester/whole", "tester/adapter")]
    return {
        "quick_starts": [[type(start["model"]).__name__, start["prompt"], len(start["printed"])] for start in starts],
        "whole": torch.equal(weights(whole), weights(local)),
        "use_cache": whole.config.use_cache,
        "eos_token_id": whole.generation_config.eos_token_id,
        "tokens": AutoTokenizer.from_pretrained("tester/whole")("1+2")["input_ids"],
        "adapters": [torch.equal(weights(a), weights(b)) for a, b in zip(adapters, local_adapters, strict=True)],
        "adapter_moved": not torch.equal(weights(adapters[0]), weights(adapters[1])),
        "adapter_base": adapters[0].active_peft_config.base_model_name_or_path,
        "answer_rules": read_metadata("tester/whole")["answer_rules"],
        "last_checkpoint": torch.equal(weights(resume), weights(local)),
        "rows": load_dataset("tester/sums", split="train").select_columns(["prompt", "solution"])[:2],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(load_all(Path(sys.argv[1]))) + "\n")
