"""What the header of a recipe says of memory and time is what the estimator prints, and it fits."""

import pytest

from dapo_trl.commands.estimate import read_scenario
from dapo_trl.estimation.estimate import estimate
from dapo_trl.estimation.report import summarize

from .headers import commands
from .table import NUMBERS, RECIPES, ROOT


WITH_GPUS = [name for name in NUMBERS if name.startswith("Qwen")]


@pytest.mark.parametrize("name", WITH_GPUS)
def test_header(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    (words,) = commands(name, "dapo-trl estimate")
    scenario = read_scenario(words)
    found = estimate(scenario)
    assert found.excess == 0
    assert scenario.gpus == NUMBERS[name].num_processes
    lines = (RECIPES / name).read_text().splitlines()
    assert f"Estimate:  {summarize(scenario, found)}" in " ".join(line.removeprefix("#").strip() for line in lines)
