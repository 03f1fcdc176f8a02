"""Each problem once, and none whose golds differ."""

import pytest

from dapo_trl.data.records import Counts, Record, deduplicate


def record(problem: str, gold: str) -> Record:
    return Record(problem.encode().hex().ljust(32, "0"), problem, gold, problem, "test")


SAME = [
    (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    (r"\frac12", "1/2"),
    ("0.5", r"$\frac{1}{2}$"),
    ("x + 1", "1+x"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"10\text{ cm}", "10"),
    (r"\text{(B)}", "B"),
    ("1,000", "1000.0"),
    (r"\frac{1", r" \frac{1 "),  # unreadable, but the same
]
OTHER = [
    ("5", "6"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    ("x + 1", "x - 1"),
    ("(1,2)", "(2,1)"),
    ("12345678901234567890", "12345678901234567891"),
    ("0.12345678901234567890", "0.12345678901234567899"),
    (r"\frac{1", "2"),
]


def test_golds_in_other_spellings_are_no_conflict():
    rows = [record(str(number), gold) for number, pair in enumerate(SAME) for gold in pair]
    counts = Counts()
    kept = list(deduplicate(rows, counts))
    assert [row.solution for row in kept] == [first for first, _ in SAME]
    assert (counts.num_duplicates, counts.num_conflicting) == (len(SAME), 0)


def test_other_golds_are_a_conflict():
    rows = [record(str(number), gold) for number, pair in enumerate(OTHER) for gold in pair]
    counts = Counts()
    assert list(deduplicate(rows, counts)) == []
    assert (counts.num_conflicting, counts.num_conflicting_problems) == (2 * len(OTHER), len(OTHER))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_one_gold_that_differs_is_enough(order):
    golds = [r"\frac{1}{2}", r"\dfrac12", r"\frac{1}{3}"]
    rows = [record("a", golds[number]) for number in order] + [record("b", "7")]
    counts = Counts()
    assert [row.solution for row in deduplicate(rows, counts)] == ["7"]
    assert (counts.num_conflicting, counts.num_conflicting_problems) == (3, 1)
