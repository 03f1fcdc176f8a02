"""Which answers are the same, for the vote of maj@k."""

import numpy as np
import pytest

from dapo_trl.evaluation.statistics import NO_ANSWER, majority_at_k
from dapo_trl.evaluation.votes import answer_classes
from dapo_trl.rewards.verifier import Verifier


class Counting(Verifier):
    """A verifier that remembers what it compared."""

    def are_equal(self, pairs):
        self.pairs = list(pairs)
        return super().are_equal(pairs)


def classes(answers, correct, verifier=None):
    return answer_classes([answers], np.array([correct]), verifier or Verifier())[0].tolist()


def test_right_answers_are_one_class_however_they_are_written():
    assert classes([r"\frac{1}{2}", "0.5", "x"], [1, 1, 0])[:2] == [0, 0]


def test_wrong_answers_written_differently_share_a_class():
    # 7 and 7.0 by the number rule, x+1 and 1+x by math-verify; no answer has no class.
    numbers = classes(["3", "7", "7.0", "x+1", "1+x", ""], [1, 0, 0, 0, 0, 0])
    assert numbers[0] == 0 and numbers[5] == NO_ANSWER
    assert numbers[1] == numbers[2] != numbers[3] == numbers[4]
    assert len(set(numbers)) == 4


def test_the_vote_that_splitting_would_win_wrongly():
    # Right: 2 of 5. Wrong: 1+x, x+1, 1 + x are three votes for the same.
    answers, correct = ["x", "x", "1+x", "x+1", "1 + x"], [1, 1, 0, 0, 0]
    merged = classes(answers, correct)
    assert majority_at_k([correct], [merged]).tolist() == [0.0]
    assert majority_at_k([correct], [[0, 0, 1, 2, 3]]).tolist() == [1.0]


def test_the_vote_that_splitting_would_not_leave_a_tie():
    # Right: 2 of 4, exactly half.
    correct = [1, 1, 0, 0]
    assert majority_at_k([correct], [classes(["x", "x", "1+x", "x+1"], correct)]).tolist() == [0.5]


@pytest.mark.parametrize("correct", [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_nothing_is_compared_where_it_cannot_change_the_vote(correct):
    verifier = Counting()
    classes(["x", "x", "x", "x+1", "1+x"], correct, verifier)
    assert verifier.pairs == []


def test_problems_are_apart():
    verifier = Counting()
    numbers = answer_classes([["1", "2", "3"], ["4", "5", "5.0"]], np.array([[1, 0, 0], [1, 0, 0]]), verifier)
    assert verifier.pairs == [("2", "3"), ("5", "5.0")]
    assert numbers.tolist() == [[0, 1, 2], [0, 1, 1]]


def test_the_rule_of_the_authors_compares_strings():
    numbers = classes(["3", "7", "7.0", "7"], [1, 0, 0, 0], Verifier("math_dapo"))
    assert numbers[1] == numbers[3] != numbers[2]
