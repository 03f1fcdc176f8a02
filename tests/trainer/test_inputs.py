"""What users give a trainer: prompts, rewards, adapters, generation, evaluation."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig
from trl import GRPOTrainer

from dapo_trl import DAPOTrainer
from tests.helpers import (
    CHAT_TEMPLATE,
    ScriptedRollouts,
    build,
    char_tokenizer,
    correct,
    is_correct,
    prompt_dataset,
    tiny_model,
    train,
    weights,
)


DYNAMIC = {"updates_per_rollout": 3}


def tables(trainer: DAPOTrainer) -> list[pd.DataFrame]:
    return [pd.read_parquet(path) for path in sorted(Path(trainer.args.output_dir, "completions").iterdir())]


def training_logs(trainer: DAPOTrainer) -> list[dict]:
    return [logs for logs in trainer.state.log_history if "loss" in logs]


def weights_with(config: dict | None = None, **arguments) -> torch.Tensor:
    return weights(train(DAPOTrainer, {**DYNAMIC, **(config or {})}, **arguments).model)


# Models


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_lora_trains_the_adapter_only(beta):
    config = {**DYNAMIC, "beta": beta, "learning_rate": 1e-2}
    trainer = build(DAPOTrainer, config, peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    assert any("lora_" in name for name in before)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name
    # The reference policy is the model without its adapter: at first the same, then not.
    assert beta == 0 or (training_logs(trainer)[0]["kl"] == 0 and training_logs(trainer)[-1]["kl"] > 1e-6)


def test_generation_with_the_model():
    first, again = (train(DAPOTrainer, DYNAMIC, rollout_func=None) for _ in range(2))
    assert not torch.equal(weights(first.model), weights(tiny_model()))
    assert torch.equal(weights(first.model), weights(again.model))
    assert training_logs(first)[0]["completions/max_length"] <= first.args.max_completion_length


# Prompts


def test_conversational_prompts():
    seen = []

    def read_message(prompts, completions, completion_ids, **kwargs):
        for prompt, completion in zip(prompts, completions, strict=True):
            seen.append(prompt[0]["role"] == "user" and [message["role"] for message in completion] == ["assistant"])
        return correct(completion_ids)

    arguments = {"processing_class": char_tokenizer(CHAT_TEMPLATE), "reward_funcs": read_message}
    conversation = weights_with(train_dataset=prompt_dataset(is_conversational=True), **arguments)
    assert seen and all(seen)
    assert not torch.equal(conversation, weights_with())

    # A template that adds nothing makes a conversation the same as its text.
    bare = char_tokenizer("{% for message in messages %}{{ message.content }}{% endfor %}")
    same = weights_with(
        train_dataset=prompt_dataset(is_conversational=True), processing_class=bare, reward_funcs=read_message
    )
    assert torch.equal(same, weights_with())


def test_conversational_prompts_sampled():
    trainer = train(
        DAPOTrainer,
        {**DYNAMIC, "log_completions": True},
        rollout_func=None,
        processing_class=char_tokenizer(CHAT_TEMPLATE),
        train_dataset=prompt_dataset(is_conversational=True),
    )
    prompts = tables(trainer)[0]["prompt"]
    assert prompts[0][0]["content"].startswith("p")


# Rewards


def test_rewards_get_the_columns_of_their_rows():
    def by_column(prompts, completions, completion_ids, number, trainer_state, log_metric, **kwargs):
        assert [prompt.split("=")[0] for prompt in prompts] == [f"p{n}" for n in number]
        assert len(prompts) == len(completions) == len(completion_ids)
        log_metric("mean_step", float(trainer_state.global_step))
        return correct(completion_ids)

    trainer = train(DAPOTrainer, DYNAMIC, reward_funcs=by_column)
    assert torch.equal(weights(trainer.model), weights_with())
    assert [logs["mean_step"] for logs in training_logs(trainer) if "mean_step" in logs] == [0.0, 3.0]


def test_async_reward():
    async def correct_later(completion_ids, **kwargs):
        return correct(completion_ids)

    assert torch.equal(weights_with(reward_funcs=correct_later), weights_with())


def test_fields_of_rollout_func_reach_the_rewards():
    class WithVerdict(ScriptedRollouts):
        def __call__(self, prompts, trainer):
            output = super().__call__(prompts, trainer)
            verdicts = [1.0 if is_correct(ids) else -1.0 for ids in output["completion_ids"]]
            return {**output, "verdict": verdicts, "origin": "script"}

    def by_verdict(verdict, origin, **kwargs):
        assert set(origin) == {"script"}
        return verdict

    assert torch.equal(weights_with(reward_funcs=by_verdict, rollout_func=WithVerdict()), weights_with())


def test_group_with_a_missing_value_is_dropped():
    def sometimes_missing(completion_ids, number, log_extra, **kwargs):
        log_extra("number", number)
        rows = zip(number, completion_ids, correct(completion_ids), strict=True)
        return [None if n % 4 == 0 and len(ids) > 6 else r for n, ids, r in rows]

    config = {**DYNAMIC, "log_completions": True}
    trainer = train(DAPOTrainer, config, reward_funcs=sometimes_missing)
    assert training_logs(trainer)[0]["dynamic_sampling/frac_unscorable"] > 0
    for table in tables(trainer):
        for _, group in table.groupby("number"):
            is_missing = group["sometimes_missing"].isna().any()
            assert ((group["dynamic_sampling"] == "unscorable") == is_missing).all()


def test_second_reward_may_be_missing():
    def bonus(completion_ids, **kwargs):
        return [0.5 if len(ids) > 6 else None for ids in completion_ids]

    def zero_bonus(completion_ids, **kwargs):
        return [0.5 if len(ids) > 6 else 0.0 for ids in completion_ids]

    config = {"dynamic_sampling_metric": "correct"}
    trainer = train(DAPOTrainer, {**DYNAMIC, **config}, reward_funcs=[correct, bonus])
    assert training_logs(trainer)[0]["dynamic_sampling/frac_unscorable"] == 0
    assert training_logs(trainer)[0]["rewards/bonus/mean"] == 0.5
    # In a sum a missing bonus is none.
    assert torch.equal(weights(trainer.model), weights_with(config, reward_funcs=[correct, zero_bonus]))


def test_rewards_of_the_caller_stay_as_they_are():
    functions, reward_weights = [correct], [2.0]
    config = {**DYNAMIC, "reward_weights": reward_weights, "soft_punish_cache": 4}
    trainer = train(DAPOTrainer, config, reward_funcs=functions)
    assert functions == [correct] and reward_weights == [2.0]
    assert "rewards/soft_overlong_punishment/mean" in training_logs(trainer)[0]


# Completions table


def test_completions_table_of_all_rows():
    def logged(completion_ids, number, log_extra, **kwargs):
        log_extra("number", number)
        log_extra("ids", [" ".join(map(str, ids)) for ids in completion_ids])
        # Prompts below 8 are always answered right.
        return [1.0 if n < 8 else reward for n, reward in zip(number, correct(completion_ids), strict=True)]

    rollouts = ScriptedRollouts()
    trainer = train(DAPOTrainer, {**DYNAMIC, "log_completions": True}, reward_funcs=logged, rollout_func=rollouts)
    first_rollout, second_rollout = tables(trainer)[0], tables(trainer)[3]
    assert len(first_rollout) + len(second_rollout) == sum(rollouts.num_rows)
    fates = set(pd.concat([first_rollout, second_rollout])["dynamic_sampling"])
    assert {"kept", "all_correct", "all_wrong", "surplus"} >= fates > {"kept", "all_correct"}

    for table, global_step in ((first_rollout, 0), (second_rollout, 3)):
        assert (table["dynamic_sampling"] == "kept").sum() == 24
        for number, group in table.groupby("number"):
            prompt = prompt_dataset()[number]["prompt"]
            expected = [rollouts.completion(prompt, position, global_step) for position in range(4)]
            assert group["ids"].tolist() == [" ".join(map(str, ids)) for ids in expected]
            assert set(group["prompt"]) == {prompt}
            decoded = char_tokenizer().batch_decode(expected, skip_special_tokens=True)
            assert group["completion"].tolist() == decoded
            fate = group["dynamic_sampling"].unique().item()
            varies = group["logged"].nunique() > 1
            assert fate in ("kept", "surplus") if varies else fate == f"all_{'correct' if number < 8 else 'wrong'}"
            assert (group["advantage"].isna() == (fate != "kept")).all()


@pytest.mark.parametrize("logging_call", [2, 3])
def test_column_that_only_some_rounds_log(logging_call):
    rows = []

    def once(completion_ids, log_extra, **kwargs):
        rows.append(len(completion_ids))
        if len(rows) == logging_call:
            log_extra("seen", ["yes"] * len(completion_ids))
        return correct(completion_ids)

    trainer = train(DAPOTrainer, {**DYNAMIC, "log_completions": True}, reward_funcs=once)
    assert len(rows) == 3, "the second rollout must have two rounds"
    table = tables(trainer)[-1]
    assert len(table) == rows[1] + rows[2]
    assert (table["seen"] == "yes").sum() == rows[logging_call - 1]


# Evaluation


@pytest.mark.parametrize("log_completions", [False, True])
def test_evaluation_during_dynamic_sampling(log_completions):
    def logged(completion_ids, number, log_extra, log_metric, **kwargs):
        log_extra("number", number)
        log_metric("rows", float(len(number)))
        return correct(completion_ids)

    evaluation = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "per_device_eval_batch_size": 6,
        "log_completions": log_completions,
    }
    trainer = train(DAPOTrainer, {**DYNAMIC, **evaluation}, eval_dataset=prompt_dataset(6), reward_funcs=logged)
    assert torch.equal(weights(trainer.model), weights_with())
    evaluations = [logs for logs in trainer.state.log_history if "eval_reward" in logs]
    assert [logs["step"] for logs in evaluations] == [2, 4, 6]
    assert all(logs["eval_rows"] == 6 for logs in evaluations)
    assert not any(name.startswith("eval_dynamic") for name in evaluations[0])
    fates = {fate for table in tables(trainer) for fate in table["dynamic_sampling"]} if log_completions else set()
    assert ("evaluation" in fates) == ("kept" in fates) == log_completions


# Length of a run


def test_epochs_count_trained_prompts_as_in_trl():
    config = {"num_train_epochs": 2, "max_steps": -1}
    dataset = prompt_dataset(12)
    grpo = train(GRPOTrainer, {**config, "steps_per_generation": 6}, train_dataset=dataset)
    dapo = train(DAPOTrainer, {**DYNAMIC, **config}, train_dataset=dataset)
    # 12 prompts, 6 per rollout, 3 updates per rollout, twice.
    assert grpo.state.global_step == dapo.state.global_step == 12
    # To find that many informative groups, more prompts were drawn.
    drawn = [logs["dynamic_sampling/epoch"] for logs in training_logs(dapo) if "dynamic_sampling/epoch" in logs]
    assert len(drawn) == 4 and drawn[-1] > 2
