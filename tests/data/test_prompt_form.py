"""Templates and forms of prompts: found in data, changed, put around problems, taken off."""

import pytest

from dapo_trl.data.prompts import ask, bare_problem, find_form, template_of, with_template
from dapo_trl.data.templates import BOXED_TEMPLATE, DAPO_TEMPLATE, apply_template, undo_template


SYSTEM = {"role": "system", "content": "Think."}


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("rows", "form"),
    [
        ([{"prompt": BOXED_TEMPLATE.replace("{problem}", "2+3?")}], BOXED_TEMPLATE),
        ([{"prompt": [SYSTEM, user(DAPO_TEMPLATE.replace("{problem}", "2+3?"))]}], [SYSTEM, user(DAPO_TEMPLATE)]),
        ([{"prompt": "Q: 2+3?\nA:", "problem": " 2+3? "}], "Q: {problem}\nA:"),
        ([{"prompt": [user("Q: 2+3?")], "question": "2+3?"}], [user("Q: {problem}")]),
        # A problem that stands twice says nothing; another row does.
        ([{"prompt": "1 for 1", "problem": "1"}, {"prompt": "2+3 for 1", "problem": "2+3"}], "{problem} for 1"),
        # Unknown: without a problem, in another place, in two forms, not only of text.
        ([{"prompt": "2+3="}], None),
        ([{"prompt": "2+3=", "problem": "2+4="}], None),
        ([{"prompt": "a?", "problem": "a"}, {"prompt": "b!", "problem": "b"}], None),
        ([{"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "problem": "a"}], None),
        ([{"prompt": "a?", "problem": ["a"]}], None),
        ([], None),
    ],
)
def test_the_form_is_found_in_the_data(rows, form):
    assert find_form(rows) == form


def test_a_template_that_is_known_need_not_be_found():
    assert find_form([{"prompt": "2+3 ="}], "{problem} =") == "{problem} ="
    assert find_form([{"prompt": [SYSTEM, user("x")]}], "boxed") == [SYSTEM, user(BOXED_TEMPLATE)]


def test_another_template_in_a_form():
    form = [SYSTEM, user("{problem}?"), {"role": "assistant", "content": "So"}]
    assert template_of(form) == "{problem}?"
    assert with_template(form, "{problem}!") == [SYSTEM, user("{problem}!"), form[2]]
    assert with_template("{problem}?", "boxed") == BOXED_TEMPLATE


def test_problems_are_put_into_a_form():
    assert ask("Q: {problem}", "{x}") == "Q: {x}"
    assert ask([SYSTEM, user("{problem}?")], "1") == [SYSTEM, user("1?")]


@pytest.mark.parametrize(
    ("text", "problem"), [("Q: 1+1?", "1+1"), ("1+1", "1+1"), ("Q: ?", "Q: ?"), ("Q: 1+1", "Q: 1+1")]
)
def test_words_that_are_there_already_are_not_put_twice(text, problem):
    assert bare_problem([SYSTEM, user("Q: {problem}?")], text) == problem


def test_dapo_template_is_the_published_text():
    assert apply_template("dapo", "What is $\\frac{2}{1}$?") == (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nWhat is $\\frac{2}{1}$?\n\nRemember "
        'to put your answer on its own line after "Answer:".'
    )


@pytest.mark.parametrize("template", ["dapo", "boxed"])
@pytest.mark.parametrize("problem", ["Q?", "Two\n\nparagraphs {x}.", "Remember to put your answer on its own line."])
def test_undo_gives_back_the_problem(template, problem):
    assert undo_template(apply_template(template, problem)) == problem


def test_undo_knows_the_other_wording():
    text = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "\\boxed{$Answer} where $Answer is the answer to the problem.\n\nQ?\n\nRemember to put your answer on its own "
        "line after 'Answer:'.\n"
    )
    assert undo_template(text) == "Q?"


@pytest.mark.parametrize(
    "text",
    [
        "Q?",
        'Q? Remember to put your answer on its own line after "Answer:".',
        "Solve the following math problem step by step. Q?",
        apply_template("dapo", "Q?") + " And hurry.",
    ],
)
def test_undo_leaves_other_texts_alone(text):
    assert undo_template(text) is None
