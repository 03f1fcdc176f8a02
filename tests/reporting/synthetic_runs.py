"""Synthetic runs, as they would lie on disk."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def training_log(rollout: int, **metrics) -> dict[str, Any]:
    """What a run logs at the end of a rollout of two optimizer steps."""
    return {"step": 2 * rollout, "rollout": rollout, "time": 1e9 + rollout, "loss": 0.1, **metrics}


def write_run(path: Path, logs: list[dict[str, Any]], settings: dict[str, Any] | None = None) -> Path:
    """A directory with `metrics.jsonl`, and `settings.json` if given."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    if settings is not None:
        (path / "settings.json").write_text(json.dumps({"settings": settings, "defaults": {}}))
    return path


def rising_run(path: Path, rewards: list[float], settings: dict[str, Any] | None = None) -> Path:
    """A run that has logged nothing but its rewards."""
    logs = [training_log(i + 1, reward=reward) for i, reward in enumerate(rewards)]
    return write_run(path, logs, settings or {"beta": 0.0})


def write_completions(run: Path, step: int, rows: list[dict[str, Any]]) -> Path:
    """A table of completions, as it is written with `log_completions`; rows may leave out what is always the same."""
    folder = run / "completions"
    folder.mkdir(parents=True, exist_ok=True)
    always = {"step": step, "prompt": "1+1=", "completion": "2"}
    table = pd.DataFrame([always | row for row in rows])
    path = folder / f"completions_{step:05d}.parquet"
    table.to_parquet(path)
    return path


def summary(name: str, correct: list[list[int]], data: str = "sums") -> dict[str, Any]:
    """A summary of an evaluation with two samples per problem."""
    mean = sum(map(sum, correct)) / (2 * len(correct))
    measures = {measure: {"mean": mean, "low": mean / 2, "high": 1.0} for measure in ("avg@2", "pass@1", "pass@2")}
    return {
        "format_version": 1,
        "model": {"name": name},
        "data": {"name": data, "num_problems": len(correct), "problems_hash": data, "prompts_hash": data},
        "sampling": {"k": 2, "temperature": 1.0, "top_p": 0.7},
        "judging": {"answer_rule": "auto-1"},
        "prompts": {"form": None, "form_from": "default", "chat_template_kwargs": {}, "example": {"sent": "1+1="}},
        "measures": measures,
        "lengths": {"mean": 1234.4, "frac_truncated": 0.125},
        "problems": [
            {
                "id": str(i),
                "problem": "?",
                "is_scorable": True,
                "correct": row,
                "pass_rate": sum(row) / 2,
                "majority": 0.0,
            }
            for i, row in enumerate(correct)
        ],
    }
