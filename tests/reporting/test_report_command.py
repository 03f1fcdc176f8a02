"""The command, on a run of the training command."""

import sys
from pathlib import Path

import pytest

from dapo_trl.commands.report import default_output_dir, main
from dapo_trl.train import main as train
from tests.command import save_model, write_problems, write_recipe
from tests.reporting.synthetic_runs import rising_run


def test_report_of_a_real_run(tmp_path, capsys):
    fields = {
        "model_name_or_path": save_model(tmp_path / "model"),
        "dataset_name": write_problems(tmp_path / "problems.jsonl"),
        "output_dir": str(tmp_path / "run"),
        "log_completions": True,
        "check_rows": 0,
        "logging_steps": None,
        "save_strategy": "no",
        "max_steps": 4,
    }
    train(["--config", write_recipe(tmp_path / "recipe.yaml", fields)])
    main([str(tmp_path / "run")])
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert capsys.readouterr().out.endswith(f"Report: {tmp_path}/run/report/report.html\n")
    assert "<td>ended</td>\n      <td>2</td>" in page
    titles = ["Response length", "Reward", "Entropy", "Mean probability", "Acceptance rate", "Rounds"]
    titles += ["Clipped tokens", "Truncated completions", "Length bias", "Phases", "Tokens per second"]
    assert [title for title in titles if f'<img alt="{title}"' not in page] == []
    assert "<th>num_generations</th>\n      <td>4</td>" in page and "<th>reward_funcs</th>" in page
    assert "<h3>Highest advantage</h3>" in page and "starts_low: <b>" in page and "num_tokens: <b>" in page


def test_several_runs_are_reported_beside_them(tmp_path, monkeypatch):
    runs = [rising_run(tmp_path / "runs" / name, [0.1]) for name in ("a", "b")]
    assert default_output_dir(runs) == tmp_path / "runs" / "report"
    monkeypatch.chdir(tmp_path)
    assert default_output_dir([Path("runs/a"), Path("runs/b")]) == tmp_path / "runs" / "report"
    assert default_output_dir([Path("runs/a")]) == Path("runs/a/report")
    main([*map(str, runs), "--title", "Two runs", "--output_dir", str(tmp_path / "out")])
    assert "<h1>Two runs</h1>" in (tmp_path / "out" / "report.html").read_text()


def test_missing_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("dapo_trl.reporting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"The report needs matplotlib: pip install 'dapo_trl\[report\]'"):
        main([str(rising_run(tmp_path / "run", [0.1]))])
