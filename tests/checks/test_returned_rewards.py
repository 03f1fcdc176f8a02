"""Rewards that training cannot use are refused by name; those it can use pass as they are."""

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from dapo_trl import DAPOTrainer
from dapo_trl.checks.returned_rewards import ReturnedValues, RewardValueError, find_lost
from dapo_trl.run.checkpoint import last_complete_checkpoint

from ..helpers import CHAT_TEMPLATE, build, char_tokenizer, correct, is_correct, prompt_dataset, train, weights


NAN = math.nan
OFF = {"dynamic_sampling": False}
NAMED = {"dynamic_sampling_metric": "correct"}


def taken(values, num_generations: int = 2) -> tuple[list, dict]:
    returned = ReturnedValues(first_row=0, num_rows=4, num_generations=num_generations)
    return returned.take(values, index=0), returned.unusable


# What functions may return


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, -1.5, None, 0], [1.0, -1.5, None, 0.0]),
        ([True, False, np.bool_(True), None], [1.0, 0.0, 1.0, None]),
        ([np.float64(0.1), np.float32(0.5), np.int64(2), Decimal("0.5")], [0.1, 0.5, 2.0, 0.5]),
        (torch.tensor([1.0, -1.0, 0.5, 0.0]), [1.0, -1.0, 0.5, 0.0]),
        ([torch.tensor(1.0), torch.tensor([2.0]), torch.tensor(0.5, dtype=torch.bfloat16), 0], [1.0, 2.0, 0.5, 0.0]),
        (np.array([1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0]),
        ((number for number in (1.0, 2.0, 3.0, 4.0)), [1.0, 2.0, 3.0, 4.0]),
        ([1e15, -1e15, 1.0, 1.0], [1e15, -1e15, 1.0, 1.0]),
        ([1.0], [1.0]),  # a wrong number of values is for TRL to refuse
    ],
)
def test_numbers_pass(values, expected):
    assert taken(values) == (expected, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1e39, "1e+39"),
        (1.1e15, "1100000000000000.0"),
        (10**400, "1000"),  # float() overflows
        ("0.5", "'0.5'"),
        ([1.0, 2.0], "[1.0, 2.0]"),
        (1 + 2j, "(1+2j)"),
        (torch.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    ],
)
def test_what_is_no_number_is_remembered(value, text):
    numbers, unusable = taken([1.0, value, None, -1.0])
    assert numbers == [1.0, math.inf, None, -1.0]
    assert list(unusable) == [(1, 0)] and unusable[1, 0].startswith(text)


@pytest.mark.parametrize(("output", "text"), [(None, "None"), (1.0, "1.0"), (torch.tensor(2.0), "tensor(2.)")])
def test_what_is_no_list_is_remembered(output, text):
    numbers, unusable = taken(output)
    assert numbers == [math.inf] * 4
    assert unusable == {(0, 0): f"{text} instead of a list of values"}


# Rewards that vanish in the sum


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([[1.0, 0.0], [-1.0, 0.0]], None),
        ([[1.0, 1e9], [-1.0, 1e9]], (0, 1)),  # 1e9 + 1 is 1e9 in float32
        ([[1.0, 1e5], [-1.0, 1e5]], None),
        ([[1.0, -1e9], [-1.0, 1e9]], None),  # what is lost counts nothing beside what differs
        ([[1.0, 1e9], [1.0, 1e9]], None),  # no difference to lose
        ([[1.0, 1e9], [1.0 + 1e-6, 1e9]], None),  # none that counts
        ([[1.0, -1.0], [-1.0, 1.0]], None),  # equal in truth
        ([[NAN, NAN], [1.0, 1.0]], None),
        ([[1.0, NAN], [-1.0, NAN]], None),
        ([[0.5, 0.0], [0.5, 0.0], [1.0, 3e9], [-1.0, 3e9]], (2, 1)),  # the second group
    ],
)
def test_find_lost(rewards, expected):
    assert find_lost(torch.tensor(rewards), torch.ones(2), num_generations=2) == expected


def test_find_lost_with_weights():
    rewards = torch.tensor([[1.0, 1e9], [-1.0, 1e9]])
    assert find_lost(rewards, torch.tensor([1.0, 1e-6]), num_generations=2) is None
    assert find_lost(rewards, torch.tensor([1.0, -1.0]), num_generations=2) == (0, 1)


# In a run


def bad(value):
    """A reward that is `value` for right completions."""

    def function(completion_ids, **kwargs):
        return [value if is_correct(ids) else -1.0 for ids in completion_ids]

    return function


class Asynchronous:
    __name__ = "asynchronous"

    async def __call__(self, completion_ids, **kwargs):
        return bad(-math.inf)(completion_ids)


@pytest.mark.parametrize("off", [{}, OFF, OFF | {"balance_micro_batches": False}], ids=["dynamic", "off", "as TRL"])
@pytest.mark.parametrize(
    ("reward_funcs", "config", "message"),
    [
        ([bad(math.inf)], {}, "'function' returned inf for row"),
        ([bad(1e39)], {}, r"'function' returned 1e\+39 for row"),
        ([bad("0.5")], {}, "'function' returned '0.5' for row"),
        ([correct, bad(-math.inf)], NAMED, "'function' returned -inf for row"),
        ([correct, Asynchronous()], NAMED, "'asynchronous' returned -inf for row"),
        ([correct, lambda completion_ids, **kwargs: None], NAMED, "returned None instead of a list of values"),
        ([correct, lambda completion_ids, **kwargs: [1e9] * len(completion_ids)], NAMED, "float32, which holds 7"),
        (
            [correct, bad(1e10)],
            NAMED | {"reward_weights": [1.0, 1e10]},
            r"'function' returned 1e\+10 \(weight 1e\+10\) for row",
        ),
        ([bad(1e38)], {}, r"'function' returned 1e\+38 for row"),
        ([bad(1e38)], {"multi_objective_aggregation": "normalize_then_sum"}, r"'function' returned 1e\+38 for row"),
    ],
)
def test_a_run_refuses_by_name(reward_funcs, config, message, off):
    with pytest.raises(RewardValueError, match=message):
        train(DAPOTrainer, config | off, reward_funcs=reward_funcs)


def test_the_row_is_named():
    def one_row(prompts, completions, **kwargs):
        return [math.inf if row == 5 else float(row % 2) for row in range(len(prompts))]

    config = {"shuffle_dataset": False}
    with pytest.raises(RewardValueError) as error:
        train(DAPOTrainer, config, reward_funcs=one_row)
    assert "'one_row' returned inf for row 5 of 8 completions, prompt 'p1=x', completion '" in str(error.value)
    conversations = {
        "train_dataset": prompt_dataset(is_conversational=True),
        "processing_class": char_tokenizer(CHAT_TEMPLATE),
    }
    with pytest.raises(RewardValueError, match="prompt 'p1=x', completion '"):
        train(DAPOTrainer, config, reward_funcs=one_row, **conversations)


def test_a_reward_model_is_named():
    config = {"vocab_size": 128, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = Qwen2ForSequenceClassification(
        Qwen2Config(**config, num_attention_heads=1, num_key_value_heads=1, num_labels=1, pad_token_id=0)
    )
    model.config.name_or_path = "judge"
    torch.nn.init.constant_(model.score.weight, math.inf)
    arguments = {"reward_funcs": [correct, model], "reward_processing_classes": [None, char_tokenizer()]}
    with pytest.raises(RewardValueError, match="'judge' returned -?inf for row"):
        train(DAPOTrainer, {"dynamic_sampling_metric": "correct"}, **arguments)


def test_a_wrong_number_of_values_is_named_by_trl():
    with pytest.raises(ValueError, match="'short' returned 7 rewards, but 8 were expected"):
        train(DAPOTrainer, reward_funcs=named("short", lambda completion_ids, **kwargs: [1.0] * 7))


def named(name, function):
    function.__name__ = name
    return function


@pytest.mark.parametrize("off", [{}, OFF], ids=["dynamic", "off"])
def test_the_state_is_not_lost(off):
    """The second rollout is refused; with the reward mended, the run goes on as if it had not been."""
    is_broken = True

    def function(completion_ids, trainer_state, **kwargs):
        value = math.inf if is_broken and trainer_state.global_step == 2 else 1.0
        return bad(value)(completion_ids)

    config = {"updates_per_rollout": 2, "max_steps": 4, "save_strategy": "steps", "save_steps": 100, **off}
    trainer = build(DAPOTrainer, config, reward_funcs=function)
    with pytest.raises(RewardValueError):
        trainer.train()
    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    assert Path(checkpoint).name == "checkpoint-2"
    is_broken = False
    resumed = build(DAPOTrainer, config, reward_funcs=function)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert torch.equal(weights(resumed.model), weights(train(DAPOTrainer, config, reward_funcs=function).model))


def test_an_evaluation_is_refused_too():
    def function(completion_ids, **kwargs):
        return correct(completion_ids) if trainer.model.training else bad(math.inf)(completion_ids)

    config = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 100}
    trainer = build(DAPOTrainer, config, reward_funcs=function, eval_dataset=prompt_dataset(4))
    with pytest.raises(RewardValueError, match="'function' returned inf"):
        trainer.train()
    assert Path(last_complete_checkpoint(trainer.args.output_dir)).name == "checkpoint-2"


def test_nan_counts_as_none_and_is_told_once(caplog):
    def function(value):
        def with_missing(completion_ids, **kwargs):
            return [value if ids[0] % 7 == 0 else 1.0 if is_correct(ids) else -1.0 for ids in completion_ids]

        return with_missing

    with_nan, with_none = (train(DAPOTrainer, reward_funcs=function(value)) for value in (NAN, None))
    assert torch.equal(weights(with_nan.model), weights(with_none.model))
    (warning,) = [record.message for record in caplog.records if "returned NaN" in record.message]
    assert "'with_missing' returned NaN. It counts as None" in warning


def test_the_functions_of_the_trainer_stay_its_own():
    trainer = train(DAPOTrainer, {"max_steps": 1})
    assert trainer.reward_funcs == [correct]
