"""The page as a whole: complete, safe, small."""

import re
from html.parser import HTMLParser

import pytest

from dapo_trl.reporting.charts import COLORS
from dapo_trl.reporting.page import write_report
from dapo_trl.reporting.runs import ReportError, load_runs
from dapo_trl.run.secret_values import remember
from tests.reporting.synthetic_runs import rising_run, training_log, write_completions, write_run


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
            is_loaded = name in ("src", "href") and not value.startswith("data:image/png;base64,iVBOR")
            if name.startswith("on") or is_loaded:
                self.dangerous.append(f"{tag} {name}={value}")


def page_of(runs, tmp_path, title="Runs") -> str:
    return write_report(load_runs(runs), tmp_path / "report", title, []).read_text(encoding="utf-8")


def test_a_report_is_a_page_and_charts(tmp_path):
    runs = [rising_run(tmp_path / name, [0.25, 0.5]) for name in ("a-seed0", "a-seed1", "b")]
    page = page_of(runs, tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Learning", "Settings that differ"]
    assert "<td>2 of 2 not ended</td>" in page and "<td>0.500</td>" in page
    assert re.findall(r'<img alt="(.*?)"', page) == ["Reward"]
    assert [path.name for path in (tmp_path / "report" / "plots").iterdir()] == ["Reward.png"]


def test_texts_of_models_cannot_do_anything(tmp_path):
    evil = '</pre><script>alert(1)</script><img src="http://x/y" onerror="alert(2)">{{ 7 * 7 }}'
    run = rising_run(tmp_path / "run", [0.1], {"note": evil, evil: 1})
    write_completions(run, 2, [{"completion": evil, "prompt": evil, "r": 1.0, "answer": evil, "gold": "1"}])
    page = page_of([run, rising_run(tmp_path / "<i>", [0.2], {"note": "x"})], tmp_path, title=evil)
    tags = Tags(page)
    assert not tags.names & {"script", "link", "iframe", "i"} and tags.dangerous == []
    assert "{{ 7 * 7 }}" in page
    assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">""" in page
    assert page.count("&lt;script&gt;alert(1)") >= 6  # title, heading, two settings, prompt, completion


def test_completions_are_those_of_the_first_seed_that_logged_any(tmp_path):
    runs = [rising_run(tmp_path / f"a-seed{seed}", [0.1]) for seed in (0, 1, 2)]
    for run in runs[1:]:
        write_completions(run, 2, [{"completion": f"by {run.name}", "r": 1.0}])
    page = page_of(runs, tmp_path)
    assert "<h3>a-seed1, after step 2</h3>" in page and "by a-seed1" in page and "by a-seed2" not in page


def test_secrets_are_masked(tmp_path):
    remember({"hub_token": "hf_secret_of_the_test"})
    run = rising_run(tmp_path / "run", [0.1], {"note": "hf_secret_of_the_test"})
    write_completions(run, 2, [{"completion": "it is hf_secret_of_the_test", "r": 1.0}])
    page = page_of([run], tmp_path)
    assert "hf_secret" not in page and "it is not-published" in page


def test_thousands_of_rollouts_make_a_small_page(tmp_path):
    logs = [training_log(i + 1, reward=(i % 7) / 7, entropy=0.5) for i in range(5000)]
    assert len(page_of([write_run(tmp_path / "run", logs, {"beta": 0.0})], tmp_path)) < 200_000


def test_one_run_shows_what_is_not_default(tmp_path):
    template = "{problem}" * 30
    page = page_of([rising_run(tmp_path / "run", [0.1], {"beta": 0.04, "prompt_template": template})], tmp_path)
    assert "<th>beta</th>\n      <td>0.04</td>" in page and template in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Learning", "Settings that are not the default"]


def test_unknown_settings_are_told(tmp_path):
    page = page_of([write_run(tmp_path / "b", [training_log(1, reward=0.1)])], tmp_path)
    assert "None that are known." in page


def test_more_runs_than_colours_are_refused(tmp_path):
    groups = load_runs([rising_run(tmp_path / f"run{i}", [0.1]) for i in range(len(COLORS) + 1)])
    with pytest.raises(ReportError, match="8 runs .* are more than can be told apart in one chart, 7. Make several"):
        write_report(groups, tmp_path / "report", "Runs", [])
    assert not (tmp_path / "report").exists()
