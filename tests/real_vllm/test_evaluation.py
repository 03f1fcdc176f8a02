"""The evaluation command through vLLM: what it finds likeliest is what Transformers finds likeliest."""

import json
from pathlib import Path

import pytest

from dapo_trl.commands.evaluate import main
from tests.command import write_problems

from .server import ENVIRONMENT
from .trainers import build


NUM_PROBLEMS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return write_problems(tmp_path_factory.mktemp("data") / "problems.jsonl")


def completions(model: str, data: str, output_dir: Path, *options: str) -> dict:
    """Text, length and end of every completion, by problem and sample."""
    words = ["--model", model, "--data", data, "--num_problems", str(NUM_PROBLEMS), "--prompt_template", "plain"]
    words += ["--max_completion_length", "16", "--dtype", "float32", "--output_dir", str(output_dir)]
    main([*words, *options])
    (path,) = output_dir.glob("completions-*.jsonl")
    rows = map(json.loads, path.read_text().splitlines()[1:])
    return {
        (row["problem"], row["sample"]): (row["completion"], row["num_tokens"], row["is_truncated"]) for row in rows
    }


@pytest.fixture(scope="module")
def likeliest(models, data, tmp_path_factory) -> dict:
    """By Transformers."""
    return completions(models["tied"], data, tmp_path_factory.mktemp("likeliest"), "--temperature", "0", "--k", "1")


def test_through_a_server(server, models, data, likeliest, tmp_path):
    generation = build(server.url, models["tied"]).vllm_generation
    generation.sync_weights()  # tests before this one may have left others
    generation.release()
    url = ("--server_url", f"{server.url}/v1")
    assert completions(models["tied"], data, tmp_path / "a", "--temperature", "0", "--k", "1", *url) == likeliest
    sampled = [completions(models["tied"], data, tmp_path / name, "--k", "8", *url) for name in "bc"]
    assert sampled[0].keys() == sampled[1].keys() and len(sampled[0]) == 8 * NUM_PROBLEMS
    assert len(set(sampled[0].values())) > 4 * NUM_PROBLEMS


def test_in_this_process(models, data, likeliest, tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = ("--backend", "vllm", "--vllm_extra", '{"enforce_eager": true}', "--temperature", "0", "--k", "1")
    assert completions(models["tied"], data, tmp_path, *options) == likeliest
