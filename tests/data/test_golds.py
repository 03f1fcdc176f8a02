import pytest

from dapo_trl.data.layouts import read_gold
from dapo_trl.data.text import answer_type, canonical_gold
from dapo_trl.rewards import AccuracyReward, verifier


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\fbox{7}", "7"),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("First \\boxed{1}, so $\\boxed{3}$ and $\\boxed{5}$.", "3, 5"),
        ("none", None),
    ],
)
def test_gold_of_a_worked_solution(text, expected):
    assert read_gold(text, is_worked=True) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{3} and \\boxed{5}",
        "Either \\boxed{3}, or after some thought \\boxed{5}.",
        "$x = \\boxed{3}$",
        "$34$",
        "34",
    ],
)
def test_the_reward_reads_a_gold_as_load_prompts_does(text):
    assert verifier.read_gold(read_gold(text)) == verifier.read_gold(text)


def test_gold_in_two_boxes():
    assert read_gold("\\boxed{3} and \\boxed{5}") == "3, 5"
    gold = [read_gold("so it is \\boxed{3} or \\boxed{5}", is_worked=True)] * 3
    assert AccuracyReward()(completions=["\\boxed{5}", "\\boxed{3}", "\\boxed{5, 3}"], solution=gold) == [
        -1.0,
        -1.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2 * 3 = 6\n#### 6", "6"), (" 34 ", "34"), (5, "5"), (0.5, "0.5"), (["7"], "7"), ("", None), (None, None)],
)
def test_read_gold(value, expected):
    assert read_gold(value) == expected


def test_rounded_gold():
    with pytest.raises(TypeError, match="1.2345678901234567e\\+19 is a number that was rounded to 53 bits.*as a text"):
        read_gold(12345678901234567890.0)
    assert read_gold(12345678901234567890) == "12345678901234567890"


@pytest.mark.parametrize("value", [True, {"a": 1}, ["1", "2"]])
def test_gold_of_another_type(value):
    with pytest.raises(TypeError, match="must be a text or a number"):
        read_gold(value)


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("033", "33"),
        ("540.0", "540"),
        ("1,024", "1024"),
        ("$-0.50$", "-0.5"),
        ("100", "100"),
        ("0.0", "0"),
        ("x  + 1", "x + 1"),
        ("1,2", "1,2"),
        ("\\dfrac{1}{2}", "1/2"),
        ("0.12345678901234567891", "0.12345678901234567891"),
        ("-1234567890123456789012345678901.50", "-1234567890123456789012345678901.5"),
        ("\\frac12", "1/2"),
        ("\\left( 1, 2 \\right)", "( 1, 2 )"),
    ],
)
def test_canonical_gold(gold, expected):
    assert canonical_gold(gold) == expected


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("34", "integer"),
        ("-1,024", "integer"),
        ("0.5", "decimal"),
        ("\\frac{1}{2}", "fraction"),
        ("\\frac12", "fraction"),
        ("3/4", "fraction"),
        ("\\text{(B)}", "choice"),
        ("\\text{east}", "text"),
        ("Evelyn", "text"),
        ("\\sqrt{3}", "expression"),
        ("x + 1", "expression"),
    ],
)
def test_answer_type(gold, expected):
    assert answer_type(gold) == expected
