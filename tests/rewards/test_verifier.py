import pickle
from collections import UserList

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
    assert verdicts(["$2\\pi$", "2*pi", "2π", "\\pi", "6.28"], "2\\pi") == [True, True, True, False, False]
    assert verdicts(["2√3", "2sqrt(3)", "\\frac{6}{\\sqrt{3}}", "\\sqrt{3}"], "2\\sqrt{3}") == [
        True,
        True,
        False,
        False,
    ]
    assert verdicts(["(x+1)^2", "x**2 + 2x + 1", "x^2"], "x^2+2x+1") == [True, True, False]
    assert verdicts(["5 or 6", "6", "\\{6, 5\\}"], "5, 6") == [True, False, True]
    assert verdicts(["5 or 6", "5, 6"], "6") == [False, False]
    assert verdicts(["0.333333", "0.33", "1/3"], "\\frac{1}{3}") == [True, False, True]
    assert verdicts(["[2,5)", "2 \\le x < 5", "(2,5)"], "[2, 5)") == [True, True, False]


def test_incomparable_and_unreadable_answers_are_wrong():
    assert verdicts(["x \\ne 4", "\\{3\\}", "\\frac{1}{", "12:00", "]]"], "x \\ne 3") == [False] * 5


def test_reasons():
    completions = ["Answer: 34", "no idea", "Answer: 34", "Answer: 2^2", "Answer: 2x+2", "Answer: x+x+2"]
    outcomes = Verifier()(completions, ["34", "34", "\\frac{1}{", "4", "2(x+1)", "2(x+1)"])
    reasons = ["rule", "no_answer", "gold_unreadable", "unfinished", "math_verify", "unfinished"]
    assert [outcome.reason.value for outcome in outcomes] == reasons
    assert [outcome.is_correct for outcome in outcomes] == [True, False, None, False, True, False]
    assert [outcome.answer for outcome in outcomes] == ["34", None, "34", "2^2", "2x+2", "x+x+2"]


def test_identical_pairs_are_verified_once():
    pool = CountingPool()
    verifier = Verifier(pool=pool)
    verifier(["Answer: 2y", "\\boxed{2y}", "Answer: 3y"], ["x", "x", "x"])
    verifier(["Answer: 2y"], ["x"])
    verifier(["none", "Answer: x"], ["x", "x"])  # the verdicts have told that the gold can be read
    assert pool.asked == [("2y", "x"), ("3y", "x")]


def test_cache_is_bounded_and_drops_the_oldest(monkeypatch):
    monkeypatch.setattr("dapo_trl.rewards.verifier.CACHE_SIZE", 2)
    pool = CountingPool()
    verifier = Verifier(pool=pool)
    for exponent in (1, 2, 1, 3, 1, 2):
        verifier([f"Answer: {exponent}y"], ["x"])
    assert [answer for answer, _ in pool.asked] == ["1y", "2y", "3y", "2y"]


def test_errors_are_not_remembered():
    pool = CountingPool(Outcome(None, Reason.ERROR, detail="broken"))
    verifier = Verifier(pool=pool)
    assert verifier(["Answer: 2y"], ["x"])[0].reason is Reason.ERROR
    pool.outcome = Outcome(True, Reason.MATH_VERIFY)
    assert verifier(["Answer: 2y"], ["x"])[0].is_correct is True


def test_time_outs_are_judged_again():
    pool = CountingPool()
    verifier = Verifier(pool=pool)
    verifier(["none"], ["x"])  # the gold can be read
    pool.outcome = Outcome(False, Reason.TIMEOUT)
    assert verifier(["Answer: 2y"], ["x"])[0].reason is Reason.TIMEOUT
    pool.outcome = Outcome(True, Reason.MATH_VERIFY)
    assert verifier(["Answer: 2y"], ["x"])[0].is_correct is True


def test_a_gold_that_times_out_is_tried_twice_and_then_unreadable():
    pool = CountingPool(Outcome(False, Reason.TIMEOUT))
    verifier = Verifier(pool=pool)
    assert [verifier(["Answer: 2y"], ["x"])[0].reason for _ in range(2)] == [Reason.GOLD_UNREADABLE] * 2
    assert pool.asked == [("2y", "x"), ("x", "x"), ("x", "x"), ("2y", "x")]


def test_whether_a_gold_can_be_read_does_not_depend_on_the_answer():
    gold = "\\begin{cases} x & x > 1 \\\\ 2 - x & x \\le 1 \\end{cases}"
    completions = [f"\\boxed{{{gold}}}", "\\boxed{5}", "no answer"]
    outcomes = Verifier()(completions, [gold] * 3)
    assert [outcome.reason for outcome in outcomes] == [Reason.GOLD_UNREADABLE] * 3


def test_sets_in_other_words():
    assert verdicts(["(1, 2)", "1 < x < 2", "[1, 2]"], "\\{x | 1 < x < 2\\}") == [True, True, False]
    assert verdicts(["1 + \\sqrt{2}, 1 - \\sqrt{2}", "1 + \\sqrt{2}"], "x = \\frac{2 \\pm \\sqrt{8}}{2}") == [
        True,
        False,
    ]
    assert verdicts(["(3, 4), (1, 2)", "3, 4, 1, 2"], "x = 1, y = 2; x = 3, y = 4") == [True, False]


def test_equations():
    assert verdicts(["xy=6", "2xy = 12", "x=6", "6"], "xy=6") == [True, True, False, False]
    assert verdicts(["2x+3", "2x - y + 3 = 0", "x = 2y + 3"], "y=2x+3") == [True, True, False]
    assert verdicts(["\\cos x = \\sqrt{2}", "\\sqrt{2}"], "\\sin x = \\sqrt{2}") == [False, True]
    assert verdicts(["2 + 3 = 5", "2 + 2 = 5", "x^2 - 20 = 5"], "5") == [True, False, False]
    assert verdicts(["y = 2, x = 1", "(1, 2)", "(2, 1)"], "x = 1, y = 2") == [True, True, False]


def test_systems_of_equations():
    system = "\\begin{cases} a + b = 1 \\\\ a - b = 2 \\end{cases}"
    assert verdicts([system, "a - b = 2, b + a = 1", "a + b = 1", system.replace("2", "3")], system) == [
        *(True, True, False, False)
    ]
    assert verdicts(["\\begin{cases} x = 1, \\\\ y = 2 \\end{cases}", "(1, 2)"], "x = 1, y = 2") == [True, True]


def test_degrees_in_functions():
    assert verdicts(["\\cot 70^\\circ", "\\tan \\frac{\\pi}{9}", "\\tan 20"], "\\tan 20^\\circ") == [True, True, False]
    assert verdicts(["x = 30^\\circ", "\\frac{\\pi}{6}"], "30") == [True, False]


def test_what_was_escaped_twice():
    matrix = "\\begin{pmatrix} 1 \\\\ \\sqrt{2} \\end{pmatrix}"
    assert verdicts([matrix, matrix.replace("\\", "\\\\"), matrix.replace("2", "3")], matrix) == [True, True, False]


def test_small_numbers_are_compared_exactly():
    assert verdicts(["\\sqrt{3} \\cdot 10^{-16}", "0"], "\\sqrt{2} \\cdot 10^{-16}") == [False, False]
    assert verdicts(["(0.0000001, 5)", "(0, 5.0)"], "(0, 5)") == [False, True]
    assert verdicts(["1.41", "1.414214", "1.41421356"], "\\sqrt{2}") == [False, True, True]


def test_letters_are_no_units():
    assert verdicts(["5g", "5", "5h"], "5h") == [False, False, True]
    assert verdicts(["5bc", "5ba"], "5ab") == [False, True]


def test_only_what_follows_the_thinking_is_read():
    texts = [
        "<think>\\boxed{6}</think> \\boxed{5}",
        "\\boxed{6}</think>",
        "<think>Answer: 6",
        "<think>a</think>6<think>Answer: 6",
    ]
    assert [outcome.answer for outcome in Verifier()(texts, ["6"] * 4)] == ["5", None, None, None]
    verifier = Verifier(thinking_tags=("[THINK]", "[/THINK]"))
    assert [outcome.answer for outcome in verifier(["[THINK]\\boxed{6}[/THINK]\\boxed{5}"], ["6"])] == ["5"]
    verifier = Verifier(thinking_tags=UserList(["", "</think>"]))
    assert [outcome.answer for outcome in verifier(["\\boxed{6}", "</think>\\boxed{5}"], ["6"] * 2)] == [None, "5"]


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
        ("Either \\boxed{3}, or after some thought \\boxed{5}, and \\boxed{3}.", "3, 5"),
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
    for tags in ("</think>", ("<think>", ""), ("</think>",), "ab", ("<think>", 1), None):
        with pytest.raises(ValueError, match="`thinking_tags` is .*two texts, the beginning .* and the end"):
            Verifier(thinking_tags=tags)
    with pytest.raises(ValueError, match="shorter"):
        Verifier()(["Answer: 1", "Answer: 2"], ["1"])
