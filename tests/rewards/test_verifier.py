import pickle

import pytest

from dapo_trl.rewards.outcome import Outcome, Reason
from dapo_trl.rewards.verifier import Verifier, read_gold


class CountingPool:
    """Stands in for the processes: everything is right, and every question is kept."""

    def __init__(self, outcome=None):
        self.outcome = outcome or Outcome(True, Reason.MATH_VERIFY)
        self.asked = []

    def check(self, pairs, timeout):
        self.asked.extend(pairs)
        return [self.outcome] * len(pairs)


def verdicts(answers, gold):
    return [
        outcome.is_correct
        for outcome in Verifier()([f"Answer: {answer}" for answer in answers], [gold] * len(answers))
    ]


def test_math_verify_decides_what_takes_algebra():
    assert verdicts(["$2\\pi$", "\\pi + \\pi", "2*pi", "2π", "\\pi", "6.28"], "2\\pi") == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    assert verdicts(["\\sqrt{12}", "2√3", "2sqrt(3)", "\\sqrt{3}"], "2\\sqrt{3}") == [True, True, True, False]
    assert verdicts(["(x+1)^2", "x**2 + 2x + 1", "x^2"], "x^2+2x+1") == [True, True, False]
    assert verdicts(["5 or 6", "6", "\\{6, 5\\}"], "5, 6") == [True, False, True]
    assert verdicts(["5 or 6", "5, 6"], "6") == [False, False]
    assert verdicts(["0.333333", "0.33", "1/3"], "\\frac{1}{3}") == [True, False, True]
    assert verdicts(["[2,5)", "2 \\le x < 5", "(2,5)"], "[2, 5)") == [True, True, False]


def test_incomparable_and_unreadable_answers_are_wrong():
    assert verdicts(["x \\ne 4", "\\{3\\}", "\\frac{1}{", "12:00", "]]"], "x \\ne 3") == [False] * 5


def test_reasons():
    completions = ["Answer: 34", "no idea", "Answer: 34", "Answer: 2^2"]
    outcomes = Verifier()(completions, ["34", "34", "\\frac{1}{", "4"])
    assert [outcome.reason.value for outcome in outcomes] == ["rule", "no_answer", "gold_unreadable", "math_verify"]
    assert [outcome.is_correct for outcome in outcomes] == [True, False, None, True]
    assert [outcome.answer for outcome in outcomes] == ["34", None, "34", "2^2"]


def test_identical_pairs_are_verified_once():
    pool = CountingPool()
    verifier = Verifier(pool=pool)
    verifier(["Answer: 2^2", "\\boxed{2^2}", "Answer: 2^3"], ["4", "4", "4"])
    verifier(["Answer: 2^2"], ["4"])
    assert pool.asked == [("2^2", "4"), ("2^3", "4")]


def test_cache_is_bounded_and_drops_the_oldest():
    pool = CountingPool()
    verifier = Verifier(cache_size=2, pool=pool)
    for exponent in (1, 2, 1, 3, 1, 2):
        verifier([f"Answer: 2^{exponent}"], ["4"])
    assert [answer for answer, _ in pool.asked] == ["2^1", "2^2", "2^3", "2^2"]


def test_errors_are_not_remembered():
    pool = CountingPool(Outcome(None, Reason.ERROR, detail="broken"))
    verifier = Verifier(pool=pool)
    assert verifier(["Answer: 2^2"], ["4"])[0].reason is Reason.ERROR
    pool.outcome = Outcome(True, Reason.MATH_VERIFY)
    assert verifier(["Answer: 2^2"], ["4"])[0].is_correct is True


def test_pickles_without_cache():
    verifier = Verifier("boxed", timeout=2.0, pool=CountingPool())
    copy = pickle.loads(pickle.dumps(verifier))
    assert (copy.rule.name, copy.timeout) == ("boxed", 2.0)
    assert copy(["\\boxed{34}"], ["34"])[0].is_correct is True


@pytest.mark.parametrize(
    "gold, read",
    [
        ("34", "34"),
        (34, "34"),
        (0.5, "0.5"),
        ("$\\sqrt{3}$", "\\sqrt{3}"),
        ("It is \\boxed{34}.", "34"),
        ("He has 2 + 2 = 4 apples.\n#### 4", "4"),
        ("\\text{Evelyn}", "\\text{Evelyn}"),
        (None, None),
        ("", None),
        ("...", None),
        (float("nan"), None),
        (True, None),
        (["34"], None),
        ("\\frac{1}{2", None),
    ],
)
def test_read_gold(gold, read):
    assert read_gold(gold) == read


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match="`timeout` is 0"):
        Verifier(timeout=0)
    with pytest.raises(ValueError, match="shorter"):
        Verifier()(["Answer: 1", "Answer: 2"], ["1"])
