import pytest
from trl.rewards import think_format_reward

from dapo_trl.rewards import AccuracyReward, load_reward


def test_accuracy_with_options():
    reward = load_reward("accuracy", answer_rule="boxed", wrong=0.0)
    assert isinstance(reward, AccuracyReward)
    assert reward(completions=["\\boxed{1}", "Answer: 1"], solution=["1", "1"]) == [1.0, 0.0]


def test_rewards_of_trl():
    assert load_reward("think_format_reward") is think_format_reward
    reward = load_reward("trl.rewards.get_repetition_penalty_reward", ngram_size=2, max_penalty=-1.0)
    assert reward([[5, 5, 5, 5, 5]]) == [-0.75]
    assert load_reward("trl.rewards.get_repetition_penalty_reward")([[1, 2, 3, 4]]) == [0.0]


def test_a_users_own_function_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(
        "def one(completions, **kwargs):\n    return [1.0] * len(completions)\n\n\n"
        "class Constant:\n    def __init__(self, value=0.0):\n        self.value = value\n\n"
        "    def __call__(self, completions, **kwargs):\n        return [self.value] * len(completions)\n\n\n"
        "number = 3\n"
    )
    (tmp_path / "broken_rewards.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)
    assert load_reward("own_rewards.one")(["a", "b"]) == [1.0, 1.0]
    assert load_reward("own_rewards.Constant", value=2.0)(["a"]) == [2.0]
    with pytest.raises(ValueError, match="plain function.*value"):
        load_reward("own_rewards.one", value=2.0)
    with pytest.raises(ValueError, match="is a int, not a function"):
        load_reward("own_rewards.number")
    with pytest.raises(ValueError, match="has no 'two'; it has: .*one"):
        load_reward("own_rewards.two")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        load_reward("broken_rewards.one")


def test_unknown_names():
    with pytest.raises(ValueError, match="no reward 'acuracy'. Known names: accuracy, think_format_reward"):
        load_reward("acuracy")
    with pytest.raises(ValueError, match="no module 'no_such_package'"):
        load_reward("no_such_package.reward")
