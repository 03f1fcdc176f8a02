import logging
import pickle

import pytest

from dapo_trl.rewards import AccuracyReward, accuracy
from dapo_trl.rewards.functions import completion_text
from dapo_trl.rewards.outcome import Outcome, Reason


class FailingPool:
    def check(self, pairs, timeout):
        return [Outcome(None, Reason.ERROR, detail="ImportError: no antlr")] * len(pairs)


def failing_reward(**options):
    reward = AccuracyReward(**options)
    reward.verifier._pool = FailingPool()
    return reward


def test_plain_and_conversational_completions():
    conversation = [{"role": "assistant", "content": "It is \\boxed{34}."}]
    assert accuracy(completions=["Answer: 34", conversation, "Answer: 35"], solution=["34"] * 3) == [1.0, 1.0, -1.0]


def test_completion_text():
    assert completion_text([{"role": "tool", "content": "1"}, {"role": "assistant", "content": "2"}]) == "2"
    assert completion_text([{"role": "assistant", "content": [{"type": "text", "text": "2"}]}]) == "2"
    assert completion_text([{"role": "assistant", "content": None}]) == ""
    assert completion_text([]) == ""
    assert completion_text(None) == ""


def test_name_and_scale():
    assert accuracy.__name__ == "accuracy"
    assert accuracy.answer_rule == "auto-2"
    reward = AccuracyReward(answer_rule="boxed", correct=2.0, wrong=0.0)
    assert reward(completions=["\\boxed{34}", "Answer: 34"], solution=["34", "34"]) == [2.0, 0.0]


def test_an_unreadable_gold_gives_none_and_is_counted():
    metrics = {}
    rewards = accuracy(completions=["Answer: 1"] * 4, solution=["1", None, "", "2"], log_metric=metrics.__setitem__)
    assert rewards == [1.0, None, None, -1.0]
    assert metrics["verifier/gold_unreadable"] == 2.0


def test_metrics_and_columns():
    metrics, columns = {}, {}
    accuracy(
        completions=["Answer: 34", "Answer: 35", "none", "Answer: 2^5 + 2"],
        solution=["34", "34", "34", "34"],
        log_metric=metrics.__setitem__,
        log_extra=columns.__setitem__,
        prompts=["p"] * 4,
        trainer_state=None,
    )
    assert metrics == {
        "verifier/frac_no_answer": 0.25,
        "verifier/frac_rule": 0.5,
        "verifier/frac_unfinished": 0.25,
        "verifier/frac_math_verify": 0.0,
        "verifier/frac_timeout": 0.0,
        "verifier/frac_error": 0.0,
        "verifier/gold_unreadable": 0.0,
    }
    assert columns == {
        "answer": ["34", "35", "", "2^5 + 2"],
        "gold": ["34"] * 4,
        "verdict": ["rule", "rule", "no_answer", "unfinished"],
    }


def test_a_missing_solution_column_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="`solution`, but the columns are: answer, prompts"):
        accuracy(completions=["Answer: 1"], prompts=["p"], answer=["1"])


def test_errors_are_logged_with_their_input_and_give_none(caplog):
    reward = failing_reward(max_error_fraction=1.0)
    metrics = {}
    with caplog.at_level(logging.WARNING):
        assert reward(completions=["Answer: 2y"], solution=["x"], log_metric=metrics.__setitem__) == [None]
    assert metrics["verifier/frac_error"] == 1.0
    assert "'2y'" in caplog.text
    assert "no antlr" in caplog.text


def test_errors_above_the_bound_stop_the_run():
    with pytest.raises(RuntimeError, match="failed on 2 of the last 4 rows.*no antlr.*2y"):
        failing_reward()(completions=["Answer: 2y"] * 2 + ["Answer: 4"] * 2, solution=["x"] * 2 + ["4"] * 2)


def test_errors_below_the_bound_do_not_stop_the_run():
    rewards = failing_reward()(completions=["Answer: 2y"] * 5 + ["Answer: 4"] * 95, solution=["x"] * 5 + ["4"] * 95)
    assert rewards == [None] * 5 + [1.0] * 95


def test_a_single_error_never_stops_a_run_but_repeated_ones_do():
    reward = failing_reward()
    assert reward(completions=["Answer: 2y"], solution=["x"]) == [None]
    with pytest.raises(RuntimeError, match="2 of the last 2 rows"):
        reward(completions=["Answer: 2y"], solution=["x"])


def test_pickles():
    copy = pickle.loads(pickle.dumps(AccuracyReward("boxed", correct=3.0)))
    assert copy(completions=["\\boxed{1}"], solution=["1"]) == [3.0]
    assert copy.__name__ == "accuracy"


@pytest.mark.parametrize("completion", ["", None, "\x00", "\ud834", "Answer: ٣٤", "Answer: 10**10**10", "{" * 100_000])
def test_hostile_completions_are_wrong(completion):
    assert accuracy(completions=[completion], solution=["34"]) == [-1.0]


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match="`wrong` is 1.0 and `correct` is 1.0"):
        AccuracyReward(wrong=1.0)
    with pytest.raises(ValueError, match="`max_error_fraction` is 2"):
        AccuracyReward(max_error_fraction=2)
    with pytest.raises(ValueError, match="known rules"):
        AccuracyReward(answer_rule="minerva")
