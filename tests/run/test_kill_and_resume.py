"""A run that is killed, wherever that may be, ends with the very weights of the uninterrupted one."""

import json
import random
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.distributed.launcher import assert_success, run
from tests.helpers import largest_difference, tiny_model, weights
from tests.kill_worker import POINTS


SEED = 20250318
TIMES = {
    "generation": 6,
    "scoring": 3,
    "between rounds": 4,
    "moving rows": 2,
    "loss": 14,
    "any call": 80_000,
}
"""How often a run reaches each point, at least; the others once in each of the seven optimizer steps."""
WITH_SCRIPTED = ("generation", "loss", "saving our state", "any call", "again and again")


def points_of(kind: str) -> dict[str, list[tuple[str, int]]]:
    """Where each run is killed: once at a random time of each point, and one run again and again."""
    draw = random.Random(f"{SEED} {kind}")
    points = {point: [(point, draw.randint(1, TIMES.get(point, 7)))] for point in POINTS}
    points["again and again"] = [("any call", draw.randint(5_000, 20_000)) for _ in range(3)]
    return points if kind == "sampled" else {name: points[name] for name in WITH_SCRIPTED}


KILLS = {(kind, name): points for kind in ("scripted", "sampled") for name, points in points_of(kind).items()}


def job_of(directory: Path, kind: str, name: str) -> dict:
    return {
        "output_dir": str(directory / f"{kind} {name}"),
        "is_scripted": kind == "scripted",
        "points": KILLS.get((kind, name), []),
        "signum": int(signal.SIGKILL),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Exit codes, checkpoints and final weights of each run: those of [`KILLS`], and one of each kind in peace."""
    directory = tmp_path_factory.mktemp("kill")
    names = [*KILLS, ("scripted", "in peace"), ("sampled", "in peace")]
    jobs = [job_of(directory, *name) for name in names]
    (directory / "jobs.json").write_text(json.dumps(jobs))
    finished = run([sys.executable, "-m", "tests.kill_worker", directory / "jobs.json", directory / "outcomes.json"])
    assert_success(finished)
    results = dict(zip(names, json.loads((directory / "outcomes.json").read_text()), strict=True))
    for name, job in zip(names, jobs, strict=True):
        results[name]["weights"] = torch.load(Path(job["output_dir"]) / "weights.pt")
    return results


@pytest.mark.parametrize(("kind", "name"), KILLS)
def test_same_weights_after_a_kill(kind, name, outcomes):
    outcome = outcomes[kind, name]
    *killed, last = outcome["exit_codes"]
    assert last == 0
    assert killed == [-signal.SIGKILL] * len(KILLS[kind, name])
    assert torch.equal(outcome["weights"], outcomes[kind, "in peace"]["weights"])


@pytest.mark.parametrize("kind", ["scripted", "sampled"])
def test_the_run_is_one_worth_killing(kind, outcomes):
    assert outcomes[kind, "in peace"]["exit_codes"] == [0]
    assert largest_difference(outcomes[kind, "in peace"]["weights"], weights(tiny_model())) > 1e-2


@pytest.mark.parametrize("what", ["the model", "the optimizer", "our state", "the trainer's state"])
def test_half_written_checkpoints_are_passed_over(what, outcomes):
    ((_, step),) = KILLS["sampled", f"saving {what}"]
    expected = f"checkpoint-{step - 1}" if step > 1 else None
    assert outcomes["sampled", f"saving {what}"]["checkpoints"] == [expected, "checkpoint-7"]
