"""Every benchmark runs in a tiny setting, writes its results, and makes its part of the page."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.record import record
from benchmarks.report import page


ROOT = Path(__file__).parents[1]
TINY = {
    "training_phase.speed": ["--rows", "8", "--set", "log-normal", "--steps", "2", "--model", "1M", "--pairs", "1"],
    "training_phase.memory": ["--rows", "8", "--set", "log-normal"],
    "training_phase.bookkeeping": ["--rollouts", "1"],
    "training_phase.scaling": ["--lengths", "16", "32", "--rows", "8"],
    "dynamic_sampling.simulate": ["--rollouts", "10"],
    "rewards.speed": ["--completions", "4"],
    "evaluation.intervals": ["--problems", "30", "--experiments", "20"],
    "generation.speed": ["--rows", "8", "--max-tokens", "8", "--rounds", "1", "--ways", "ended rows leave the batch"],
}


@pytest.mark.parametrize("benchmark", TINY)
def test_a_tiny_run(benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [benchmark, *TINY[benchmark], "--results", str(tmp_path)])
    importlib.import_module(f"benchmarks.{benchmark}").main()
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert all(row["ratio"] > 0 and row["command"].startswith("python -m benchmarks.") for row in content["rows"])
    table = [line for line in page(tmp_path).splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(content["rows"])
    assert all("TRL 1.16.0" in line for line in table[2:])


def test_golds_as_answers(tmp_path, monkeypatch, capsys):
    rows = [
        {"problem": "Square $x+5$, subtract $10x + 50$.", "answer": "x^2 - 25"},
        {"problem": "Compute $3 \\cdot 4$.", "answer": "12"},
        {"problem": "How long, if $y = 12$?", "answer": "12\\text{ cm}"},
        {"problem": "If $t = 7$?", "answer": "7"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["agreement", str(path), "--workers", "1", "--results", str(tmp_path)])
    importlib.import_module("benchmarks.rewards.agreement").main()
    found = {row["check"]: row for row in json.loads((tmp_path / "rewards_agreement.json").read_text())["rows"]}
    assert found["spellings"]["expected"] == found["spellings"]["cases"] > 40
    # 12 and 12 cm, either way
    assert [found["neighbours"][name] for name in ("cases", "expected", "same number")] == [6, 4, 2]
    # y = 12 and t = 7
    assert [found["echo"][name] for name in ("cases", "expected", "same number")] == [4, 2, 2]
    assert "echo, same number" in capsys.readouterr().out


def test_make_bench_runs_all_of_them():
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^BENCH \?= ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)[1]
    assert set(listed.replace("\\", "").split()) >= TINY.keys()


def test_a_row_is_replaced_by_one_of_the_same_settings(tmp_path):
    def measure(size: int, ratio: float) -> None:
        row = {"size": size, "ratio": ratio, "command": "python -m this"}
        record("some", "## Some", {"size": "d"}, {"ratio": ".2f"}, [row], tmp_path)

    measure(size=1, ratio=2.0)
    measure(size=2, ratio=3.0)
    measure(size=1, ratio=4.0)
    rows = json.loads((tmp_path / "some.json").read_text())["rows"]
    assert [(row["size"], row["ratio"]) for row in rows] == [(1, 4.0), (2, 3.0)]
    assert "| 1 | 4.00 | `python -m this` | dapo_trl" in page(tmp_path)


def test_every_row_needs_a_command_and_a_ratio(tmp_path):
    with pytest.raises(ValueError, match="A row of some has no \\['command', 'ratio'\\]"):
        record("some", "## Some", {"size": "d"}, {}, [{"size": 1}], tmp_path)


def test_the_page_is_made_from_the_results():
    assert (ROOT / "benchmarks/README.md").read_text() == page(ROOT / "benchmarks/results")
