import pytest

from dapo_trl.data.templates import apply_template, undo_template


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
