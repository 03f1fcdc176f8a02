"""The page as a whole: complete, safe, small."""

import re
from html.parser import HTMLParser

import pytest

from dapo_trl.reporting.page import MAX_GROUPS, write_report
from dapo_trl.reporting.runs import ReportError, load_runs
from tests.reporting.made_up import rising_run, training_log, write_completions, write_run


class Tags(HTMLParser):
    """Names of all elements, and everything that could be loaded or run."""

    def __init__(self, text: str):
        super().__init__()
        self.names: set[str] = set()
        self.dangerous: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("src", "href", "xlink:href") and not value.startswith("#")):
                self.dangerous.append(f"{tag} {name}={value}")


def page_of(runs, tmp_path, title="Runs") -> str:
    return write_report(load_runs(runs), tmp_path / "report", title, []).read_text(encoding="utf-8")


def test_a_report_is_a_page_and_charts(tmp_path):
    runs = [rising_run(tmp_path / name, [0.25, 0.5]) for name in ("a-seed0", "a-seed1", "b")]
    page = page_of(runs, tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Learning", "Settings that differ"]
    assert "2 seeds, 2 rollouts, 2 not ended" in page and ">0.500<" in page
    assert page.count("<svg") == 1
    assert [path.name for path in (tmp_path / "report" / "plots").iterdir()] == ["reward.png"]


def test_texts_of_models_cannot_do_anything(tmp_path):
    evil = '</pre><script>alert(1)</script><img src="http://x/y" onerror="alert(2)">{{ 7 * 7 }}'
    run = rising_run(tmp_path / "run", [0.1], {"note": evil})
    write_completions(run, 2, [{"completion": evil, "prompt": evil, "r": 1.0, "answer": evil, "gold": "1"}])
    page = page_of([run, rising_run(tmp_path / "<b>", [0.2], {"note": "x"})], tmp_path, title=evil)
    tags = Tags(page)
    assert not tags.names & {"script", "img", "link", "iframe", "b"} and tags.dangerous == []
    assert "{{ 7 * 7 }}" in page
    assert """content="default-src 'none'""" in page
    assert page.count("&lt;script&gt;alert(1)") >= 4  # title, setting, prompt, completion


def test_page_follows_the_colour_scheme(tmp_path):
    page = page_of([rising_run(tmp_path / "run", [0.1])], tmp_path)
    assert "prefers-color-scheme: dark" in page
    assert len(re.findall(r"--series-0: #[0-9a-f]{6};", page)) == 2  # light and dark


def test_thousands_of_rollouts_and_long_completions_make_a_small_page(tmp_path):
    logs = [training_log(i + 1, reward=(i % 7) / 7, entropy=0.5) for i in range(5000)]
    run = write_run(tmp_path / "run", logs, {"beta": 0.0})
    rows = [{"completion": "x " * 20000, "r": float(i)} for i in range(20)]
    write_completions(run, 2, rows)
    page = page_of([run], tmp_path)
    assert len(page) < 200_000
    assert "neighbours are joined to means" in page


def test_one_run_shows_what_is_not_default_and_no_legend(tmp_path):
    page = page_of([rising_run(tmp_path / "run", [0.1], {"beta": 0.04})], tmp_path)
    assert "<dt>beta</dt><dd>0.04</dd>" in page
    assert 'class="legend"' not in page and "Evaluation" not in page


def test_oddities_are_told(tmp_path):
    runs = [rising_run(tmp_path / f"a-seed{seed}", [0.1], {"beta": 0.1 * seed}) for seed in (0, 1)]
    unknown = write_run(tmp_path / "b", [training_log(1, reward=0.1)])
    page = page_of([*runs, unknown], tmp_path)
    assert "The seeds of a differ in more than their seed: beta." in page
    assert "Settings that are unknown: those of b." in page


def test_more_runs_than_colours_are_refused(tmp_path):
    groups = load_runs([rising_run(tmp_path / f"run{i}", [0.1]) for i in range(MAX_GROUPS + 1)])
    with pytest.raises(ReportError, match="8 runs .* are more than can be told apart in one chart, 7. Make several"):
        write_report(groups, tmp_path / "report", "Runs", [])
    assert not (tmp_path / "report").exists()
