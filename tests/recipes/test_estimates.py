"""What the header of a recipe says of memory and time is what the estimator prints, and it fits."""

import re
import shlex

import pytest

from dapo_trl.estimate import read_question
from dapo_trl.estimation import estimate, summarize

from .table import NUMBERS, RECIPES, ROOT


WITH_GPUS = [name for name in NUMBERS if name.startswith("Qwen")]


@pytest.mark.parametrize("name", WITH_GPUS)
def test_header(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = (RECIPES / name).read_text().split("\n\n")[0].splitlines()
    header = " ".join(line.removeprefix("#").strip() for line in lines)
    (command,) = re.findall(r"python -m dapo_trl.estimate (.*?) Expected:", header.replace(" \\ ", " "))
    question = read_question(shlex.split(command))
    found = estimate(question)
    assert found.excess == 0
    assert question.hardware.num_gpus == NUMBERS[name].num_processes
    assert f"Estimate:  {summarize(question, found)}" in header
