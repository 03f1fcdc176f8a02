import pytest

from dapo_trl.rewards.math_dapo import equals_math_dapo, find_math_dapo, normalize_math_dapo
from dapo_trl.rewards.verifier import Verifier


def test_takes_the_last_match_within_300_characters():
    assert find_math_dapo("Answer: 1\nAnswer: 2") == "2"
    assert find_math_dapo("ANSWER :\n\n 3 \nend") == "3 "
    assert find_math_dapo("Answer: 4" + "x" * 291) == "4" + "x" * 291
    assert find_math_dapo("Answer: 4\n" + "x" * 300) is None
    assert find_math_dapo("\\boxed{4}") is None


@pytest.mark.parametrize(
    "answer, normalized",
    [
        ("540", "540"),
        ("1,024", "1024"),
        ("x = 34", "34"),
        ("34 degrees", "34"),
        ("34^\\circ", "34"),
        ("$34$", "34"),
        ("the value $34$ here", "34"),
        ("\\boxed{34}", "34"),
        ("\\text{east}", "east"),
        ("\\frac12", "\\frac{1}{2}"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("\\$34", "34"),
        ("a dog", "dog"),
        ("34 ft", "34ft"),
    ],
)
def test_normalization(answer, normalized):
    assert normalize_math_dapo(answer) == normalized


@pytest.mark.parametrize("answer", ["540.", "**540**", "** 540", "540.0", "0540"])
def test_known_false_negatives_are_reproduced(answer):
    assert not equals_math_dapo(answer, "540")


def test_verifier_uses_nothing_but_the_rule():
    outcomes = Verifier("math_dapo")(["Answer: 34", "Answer: 34.", "Answer: 33+1", "\\boxed{34}"], ["34"] * 4)
    assert [outcome.is_correct for outcome in outcomes] == [True, False, False, False]
    assert [outcome.reason.value for outcome in outcomes] == ["rule", "rule", "rule", "no_answer"]
