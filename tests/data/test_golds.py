import pytest

from dapo_trl.data.rows import read_gold
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
    rewards = AccuracyReward()(completions=["\\boxed{5}", "\\boxed{3}", "\\boxed{5, 3}"], solution=gold)
    assert rewards == [-1.0, -1.0, 1.0]


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
