"""From completions to verdicts and results, against values worked by hand."""

import numpy as np
import pytest

from dapo_trl.data.records import Record
from dapo_trl.evaluation.judge import answer_classes, judge, results
from dapo_trl.evaluation.statistics import NO_ANSWER, majority_at_k
from dapo_trl.rewards import AccuracyReward
from dapo_trl.rewards.outcome import Outcome, Reason
from dapo_trl.rewards.verifier import Verifier


RECORDS = [Record(name, f"{name}?", gold, f"{name}?", "test") for name, gold in (("a", "2"), ("b", "x+1"), ("c", "5"))]
# Problem: completions with their lengths; one cut off.
COMPLETIONS = {
    "a": [("Answer: 2", 10), ("Answer: 2.0", 20), ("Answer: 3", 30), ("I do not know", 40)],
    "b": [("Answer: 1+x", 50), ("Answer: 7", 60), ("Answer: 7", 70), ("Answer: 8", 80)],
    "c": [("and so on", 100), ("Answer: 6", 10), ("Answer: 6", 10), ("Answer: 6", 10)],
}


def rows(completions=None):
    for problem, samples in (completions or COMPLETIONS).items():
        for sample, (text, num_tokens) in enumerate(samples):
            row = {"problem": problem, "sample": sample, "completion": text, "num_tokens": num_tokens}
            yield row | {"is_truncated": num_tokens == 100}


@pytest.fixture(scope="module")
def summary() -> dict:
    reward = AccuracyReward()
    verdicts = judge(rows(), RECORDS, 4, reward)
    return results(RECORDS, verdicts, reward.verifier)


def test_measures(summary):
    means = {name: values["mean"] for name, values in summary["measures"].items()}
    assert means == {
        "avg@4": pytest.approx((2 + 1 + 0) / 12),
        "maj@4": pytest.approx(1 / 3),  # a: 2 of 3 votes; b: 7 wins; c: 6 wins
        "pass@1": pytest.approx(1 / 4),
        "pass@2": pytest.approx((5 / 6 + 1 / 2 + 0) / 3),
        "pass@4": pytest.approx(2 / 3),
    }
    assert all(values["low"] <= values["mean"] <= values["high"] for values in summary["measures"].values())


def test_lengths(summary):
    lengths = summary["lengths"]
    assert lengths["mean"] == pytest.approx((100 + 260 + 130) / 12)
    assert (lengths["min"], lengths["median"], lengths["max"]) == (10, 30, 100)
    assert lengths["mean_correct"] == pytest.approx((10 + 20 + 50) / 3)
    assert lengths["mean_wrong"] == pytest.approx(410 / 9)
    assert (lengths["frac_truncated"], lengths["frac_truncated_wrong"]) == (
        pytest.approx(1 / 12),
        pytest.approx(1 / 9),
    )


def test_problems(summary):
    assert summary["problems"][0] == {
        "id": "a",
        "problem": "a?",
        "gold": "2",
        "is_scorable": True,
        "correct": [1, 1, 0, 0],
        "answers": ["2", "2.0", "3", ""],
        "pass_rate": 0.5,
        "majority": 1.0,
        "mean_tokens": 25.0,
        "num_truncated": 0,
    }
    assert [problem["num_truncated"] for problem in summary["problems"]] == [0, 0, 1]


def test_verdicts_are_counted(summary):
    # math-verify decides on b alone: 7 and 8 are no x+1, but it takes algebra to say so.
    assert summary["verifier"] == {
        "no_answer": 2,
        "rule": 6,
        "unfinished": 0,
        "math_verify": 4,
        "timeout": 0,
        "error": 0,
        "gold_unreadable": 0,
    }


def test_a_problem_whose_gold_cannot_be_read_is_left_out(caplog):
    records = [*RECORDS[:1], Record("b", "b?", r"\frac{1", "b?", "test")]
    reward = AccuracyReward()
    verdicts = judge(rows({name: COMPLETIONS[name] for name in "ab"}), records, 4, reward)
    summary = results(records, verdicts, reward.verifier)
    assert summary["measures"]["avg@4"] == {"mean": 0.5, "low": None, "high": None}
    assert summary["lengths"]["mean"] == 25
    assert summary["verifier"]["gold_unreadable"] == 4
    assert [(row["is_scorable"], row["pass_rate"], row["majority"]) for row in summary["problems"]] == [
        (True, 0.5, 1.0),
        (False, None, None),
    ]
    assert r"1 problems are left out: their reference answers cannot be read, such as '\\frac{1'" in caplog.text


def test_no_gold_can_be_read():
    records = [Record("a", "a?", r"\frac{1", "a?", "test")]
    reward = AccuracyReward()
    verdicts = judge(rows({"a": COMPLETIONS["a"]}), records, 4, reward)
    with pytest.raises(ValueError, match="None of the 1 reference answers can be read, .* Name the column"):
        results(records, verdicts, reward.verifier)


def test_a_failure_of_the_verifier_counts_as_wrong(monkeypatch, caplog):
    reward = AccuracyReward()
    outcomes = [
        Outcome(True, Reason.RULE, "2"),
        Outcome(None, Reason.ERROR, "3", "broken"),
        *[Outcome(True, Reason.RULE, "2")] * 2,
    ]
    monkeypatch.setattr(reward, "verifier", lambda texts, golds: outcomes)
    verdicts = judge(rows({"a": COMPLETIONS["a"]}), RECORDS[:1], 4, reward)
    assert verdicts["correct"].tolist() == [True, False, True, True]
    assert verdicts["verdict"].tolist() == ["rule", "error", "rule", "rule"]
    assert "The verifier failed on 1 samples, which count as wrong." in caplog.text


def test_samples_beyond_k_and_of_other_problems_are_passed_over():
    verdicts = judge(rows(), RECORDS[:1], 2, AccuracyReward())
    assert verdicts["correct"].tolist() == [True, True]
    assert verdicts["num_tokens"].tolist() == [10, 20]


def test_missing_samples_are_an_error():
    with pytest.raises(ValueError, match=r"3 of 15 samples are missing, such as \('a', 4\)"):
        judge(rows(), RECORDS, 5, AccuracyReward())


# Which answers are the same, for the vote of maj@k


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
