"""Charts for the page and for files."""

import re
import xml.etree.ElementTree as ElementTree

from dapo_trl.reporting.figures import charts, inline_svg, save_png
from dapo_trl.reporting.panels import SAMPLING, SPEED, evaluation_panels, sections
from dapo_trl.reporting.runs import load_runs
from dapo_trl.reporting.themes import PLACEHOLDERS
from tests.reporting.made_up import rising_run, training_log, write_run


ACCEPTANCE = SAMPLING.panels[0]
PHASES = SPEED.panels[0]


def timed_run(path):
    log = {"dynamic_sampling/acceptance_rate": 0.5, "time/generation": 2.0, "time/training": 1.0, "time/rollout": 4.0}
    return write_run(path, [training_log(rollout, **log) for rollout in (1, 2, 3)])


def test_all_runs_are_in_one_chart_and_parts_of_a_whole_in_one_each(tmp_path):
    groups = load_runs([timed_run(tmp_path / "a"), timed_run(tmp_path / "b"), rising_run(tmp_path / "c", [0.1])])
    (overlaid,) = charts(ACCEPTANCE, groups, "rollout")
    assert [(number, group.name) for number, group in overlaid.groups] == [(0, "a"), (1, "b")]
    each = charts(PHASES, groups, "rollout")
    assert [(chart.title, chart.name) for chart in each] == [
        ("Where the time goes: a", "phases_1"),
        ("Where the time goes: b", "phases_2"),
    ]
    assert each[0].caption and not each[1].caption


def test_without_data_there_is_no_chart(tmp_path):
    groups = load_runs([rising_run(tmp_path / "a", [0.1])])
    drawn = [
        chart.name
        for section in sections(groups)
        for panel in section.panels
        for chart in charts(panel, groups, "rollout")
    ]
    assert drawn == ["reward"]


def test_every_evaluation_data_set_has_a_chart(tmp_path):
    evaluation = {"step": 2, "rollout": 1, "eval_avg@4": 0.5, "eval_avg@4_low": 0.1, "eval_aime_2024_avg@32": 0.25}
    groups = load_runs([write_run(tmp_path / "a", [training_log(1, reward=0.0), evaluation])])
    panels = evaluation_panels(groups)
    assert [panel.title for panel in panels] == ["Evaluation on aime_2024: avg@32", "Evaluation: avg@4"]
    assert all("<svg" in inline_svg(charts(panel, groups, "rollout")[0]) for panel in panels)


def test_svg_takes_colours_and_font_from_the_page(tmp_path):
    groups = load_runs([timed_run(tmp_path / "a"), timed_run(tmp_path / "b")])
    lines = inline_svg(charts(ACCEPTANCE, groups, "rollout")[0])
    stack = inline_svg(charts(PHASES, groups, "rollout")[0])
    for svg in (lines, stack):
        ElementTree.fromstring(svg.replace("xlink:href", "href"))
        placeholders = [PLACEHOLDERS.ink, PLACEHOLDERS.rule, *PLACEHOLDERS.series, *PLACEHOLDERS.parts]
        assert not [color for color in placeholders if color in svg]
        assert "var(--ink)" in svg and "font-family" not in svg and "font: " not in svg
    assert "var(--series-0)" in lines and "var(--series-1)" in lines and "var(--parts-0)" in stack


def test_drawings_of_one_page_share_no_ids(tmp_path):
    groups = load_runs([timed_run(tmp_path / "a"), timed_run(tmp_path / "b")])
    drawn = [inline_svg(chart) for panel in (ACCEPTANCE, PHASES) for chart in charts(panel, groups, "rollout")]
    ids = [name for svg in drawn for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)) > 50
    references = {name for svg in drawn for name in re.findall(r'(?:url\(#|href="#)([^")]+)', svg)}
    assert references <= set(ids)


def test_png_is_written_whatever_the_run_is_called(tmp_path):
    groups = load_runs([timed_run(tmp_path / "_a$b^$"), timed_run(tmp_path / "<b>")])
    (chart,) = charts(ACCEPTANCE, groups, "rollout")
    save_png(chart, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
