"""Two evaluations of the same problems, compared."""

import copy

import pytest

from dapo_trl.evaluation.compare import NotComparableError, compare, describe_comparison


def prompts(form: str | list | None, sent: str = "?", **kwargs) -> dict:
    example = {"id": "a", "sent": sent}
    return {"form": form, "form_from": "model", "chat_template_kwargs": kwargs, "example": example}


def summary(name: str, correct: dict[str, list[int]]) -> dict:
    problems = [
        {
            "id": problem,
            "problem": f"Problem {problem}",
            "is_scorable": True,
            "correct": marks,
            "pass_rate": sum(marks) / len(marks),
            "majority": float(sum(marks) > len(marks) / 2),
        }
        for problem, marks in correct.items()
    ]
    k = len(problems[0]["correct"])
    average = sum(problem["pass_rate"] for problem in problems) / len(problems)
    return {
        "model": {"name": name},
        "data": {"name": "sums", "num_problems": len(problems), "problems_hash": "p", "prompts_hash": "q"},
        "sampling": {"k": k, "temperature": 1.0},
        "prompts": prompts("{problem}"),
        "judging": {"answer_rule": "auto-1"},
        "measures": {key: {"mean": average} for key in (f"avg@{k}", f"maj@{k}", "pass@1", "pass@2")},
        "problems": problems,
    }


FIRST = summary("before", {"a": [0, 0], "b": [1, 0], "c": [1, 1], "d": [1, 0]})
# Other order of the problems: a gains 1, b gains 0.5, c loses 0.5, d is equal.
SECOND = summary("after", {"d": [0, 1], "c": [1, 0], "b": [1, 1], "a": [1, 1]})


def test_differences_are_paired():
    differences = compare(FIRST, SECOND).differences
    assert list(differences) == ["maj@2", "avg@2", "pass@1", "pass@2"]
    assert differences["avg@2"].mean == pytest.approx((1 + 0.5 - 0.5 + 0) / 4)
    assert differences["pass@2"].mean == pytest.approx(1 / 4)  # a alone
    assert differences["maj@2"].mean == pytest.approx((1 + 1 - 1 + 0) / 4)
    assert differences["avg@2"].low < 0.25 < differences["avg@2"].high


def test_summaries_that_do_not_tell_of_their_prompts():
    """Those of early versions."""
    first, second = ({name: value for name, value in each.items() if name != "prompts"} for each in (FIRST, SECOND))
    assert compare(first, second).differences["avg@2"].mean == pytest.approx(0.25)
    with pytest.raises(NotComparableError, match="The first was asked with prompts and chat_template_kwargs {}, the"):
        compare(first, second | {"data": second["data"] | {"prompts_hash": "other"}})


def test_gains_and_losses():
    changes = compare(FIRST, SECOND).changes
    assert [(change.id, change.first, change.second) for change in changes[:2]] == [("a", 0, 1), ("b", 0.5, 1)]
    assert [(change.id, change.gain) for change in changes[2:]] == [("d", 0), ("c", -0.5)]


def test_what_is_printed():
    lines = describe_comparison(compare(FIRST, SECOND), FIRST, SECOND).splitlines()
    assert lines[:3] == ["A: before", "B: after", "sums: 4 problems, answer rule auto-1"]
    (cells,) = (line.split() for line in lines if line.split()[:1] == ["avg@2"])
    assert cells[:4] == ["avg@2", "0.500", "0.750", "+0.250"] and cells[5] == "to"
    assert float(cells[4]) < 0.25 < float(cells[6])
    assert "Pass rates: 2 problems gained, 1 lost, 1 are equal." in lines
    assert lines[lines.index("Largest gains:") + 1] == "  0.000 -> 1.000  Problem a"
    assert lines[lines.index("Largest losses:") + 1] == "  1.000 -> 0.500  Problem c"


def test_an_unscorable_problem_is_left_out():
    pair = [copy.deepcopy(FIRST), copy.deepcopy(SECOND)]
    for one in pair:
        (problem,) = (problem for problem in one["problems"] if problem["id"] == "a")
        problem.update(is_scorable=False, pass_rate=None, majority=None)
    assert compare(*pair).differences["avg@2"].mean == pytest.approx(0)


def test_other_sampling_is_warned_about(caplog):
    other = copy.deepcopy(SECOND)
    other["sampling"] |= {"temperature": 0.6, "dtype": "bfloat16"}
    assert compare(FIRST, other).differences["avg@2"].mean == pytest.approx(0.25)
    assert "The sampling differs: temperature is 1.0 in the first, 0.6 in the second." in caplog.text
    assert "The sampling differs: dtype is None in the first, 'bfloat16' in the second." in caplog.text


def test_other_thinking_tags_are_warned_about(caplog):
    pair = [copy.deepcopy(FIRST), copy.deepcopy(SECOND)]
    for one, tags in zip(pair, (["<think>", "</think>"], ["<t>", "</t>"]), strict=True):
        one["judging"]["thinking_tags"] = tags
    assert compare(*pair).differences["avg@2"].mean == pytest.approx(0.25)
    assert "No answer was read between ['<think>', '</think>'] in the first, between ['<t>', '</t>']" in caplog.text


def test_another_k_leaves_the_common_measures():
    other = summary("after", {"a": [1], "b": [1], "c": [1], "d": [0]})
    assert list(compare(FIRST, other).differences) == ["pass@1"]


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("judging", {"answer_rule": "boxed-1"}, "answer rule auto-1, the second by boxed-1.*nothing is sampled"),
        ("data", {"problems_hash": "z", "name": "other"}, "4 problems of sums, the second 4 of other.*same data"),
    ],
)
def test_what_cannot_be_compared(part, values, message):
    other = copy.deepcopy(SECOND)
    other[part] |= values
    with pytest.raises(NotComparableError, match=message):
        compare(FIRST, other)


def asked(summary: dict, form: str | list | None, sent: str = "?", **kwargs) -> dict:
    return summary | {"prompts": prompts(form, sent, **kwargs), "data": summary["data"] | {"prompts_hash": str(form)}}


SYSTEM = [{"role": "system", "content": "Think."}, {"role": "user", "content": "{problem}"}]


@pytest.mark.parametrize(
    ("first", "second", "kwargs", "message"),
    [
        ("{problem}", "{problem}=", {}, "form '{problem}' and .*, the second with prompts of the form '{problem}='"),
        (SYSTEM[1:], SYSTEM, {}, "the second with prompts of the form .*'Think.'.*: a difference would be one of pr"),
        ("{problem}", None, {"sent": "Solve 1"}, "the second with prompts such as 'Solve 1'"),
        (
            *("{problem}", "{problem}", {"think": True}),
            "kwargs {}, the second with .*kwargs {'think': True}: .*asked: after with --like before[.]$",
        ),
    ],
)
def test_other_prompts_cannot_be_compared(first, second, kwargs, message):
    with pytest.raises(NotComparableError, match=message):
        compare(asked(FIRST, first), asked(SECOND, second, **kwargs))


def test_other_chat_templates_are_warned_about(caplog):
    compare(asked(FIRST, SYSTEM, "<user>1"), asked(SECOND, SYSTEM, "[user]1"))
    assert "reach the models as other texts: '<user>1' in the first, '[user]1' in the second" in caplog.text
