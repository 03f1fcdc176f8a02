"""Defaults of the paper, and every combination that cannot work."""

import re
import warnings

import pytest
from trl import GRPOConfig

from dapo_trl import DAPOConfig
from dapo_trl.generation.vllm.preflight import check_weight_transfer
from dapo_trl.run.secret_values import NOT_PUBLISHED


NAN = float("nan")
CPU = {"use_cpu": True, "bf16": False, "report_to": "none"}
SIX_UPDATES = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4}


def config(**fields) -> DAPOConfig:
    """One that needs no warning."""
    return DAPOConfig(**CPU | SIX_UPDATES | {"updates_per_rollout": 6} | fields)


def warnings_of(**fields) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config(**fields)
    return [warning for warning in caught if warning.category is UserWarning]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epsilon", 0.2),
        ("epsilon_high", 0.28),
        ("num_generations", 16),
        ("updates_per_rollout", 16),
        ("warmup_rollouts", 20),
        ("lr_scheduler_type", "constant_with_warmup"),
        ("dynamic_sampling", True),
        ("dynamic_sampling_metric", None),
        ("max_rounds", 10),
        ("on_shortage", "train_partial"),
        ("max_oversampling", 3.0),
        ("soft_punish_cache", None),
        ("overlong_weight", 1.0),
        ("token_normalization", "step"),
        ("balance_micro_batches", True),
        ("loss_type", "dapo"),
        ("beta", 0.0),
        ("mask_truncated_completions", False),
        ("vllm_importance_sampling_mode", "token_truncate"),
        ("vllm_importance_sampling_clip_max", 2.0),
        # What follows from them: 16 updates of one micro-batch of 8 rows, 20 rollouts of 16 optimizer steps.
        ("steps_per_generation", 16),
        ("generation_batch_size", 128),
        ("prompts_per_rollout", 8),
        ("warmup_steps", 320),
        ("num_generations_eval", 8),
        ("logging_steps", 16),
        ("eval_rollouts", None),
        ("on_alarm", "warn"),
        ("disable_dropout", True),
    ],
)
def test_defaults(field, value):
    assert getattr(DAPOConfig(**CPU), field) == value


def test_everything_else_is_as_in_grpo():
    ours, theirs = DAPOConfig(**CPU).to_dict(), GRPOConfig(**CPU).to_dict()
    assert ours.pop("hub_token") == NOT_PUBLISHED and theirs.pop("hub_token") == "<HUB_TOKEN>"
    assert {name for name, value in theirs.items() if ours[name] != value} == {
        "epsilon_high",
        "num_generations",
        "steps_per_generation",
        "generation_batch_size",
        "num_generations_eval",
        "logging_steps",
        "lr_scheduler_type",
        "warmup_steps",
        "vllm_importance_sampling_mode",
        "vllm_importance_sampling_clip_max",
        "disable_dropout",
    }


# How a rollout is divided


@pytest.mark.parametrize(
    ("fields", "updates", "micro_steps", "rows"),
    [
        ({}, 6, 12, 48),  # 6 updates of 2 micro-batches of 4 rows
        ({"steps_per_generation": 8}, 4, 8, 32),
        ({"generation_batch_size": 16}, 2, 4, 16),
    ],
)
def test_how_a_rollout_is_divided(fields, updates, micro_steps, rows):
    args = config(updates_per_rollout=6, **fields)
    divided = args.updates_per_rollout, args.steps_per_generation, args.generation_batch_size
    assert divided == (updates, micro_steps, rows)
    assert args.prompts_per_rollout == rows // 4  # groups of 4


@pytest.mark.parametrize(
    ("fields", "warmup_steps"),
    [
        ({}, 120),  # 20 rollouts * 6 updates
        ({"warmup_rollouts": 3}, 18),
        ({"warmup_rollouts": 3, "num_iterations": 2}, 36),
        ({"warmup_rollouts": 3, "steps_per_generation": 8}, 12),  # 4 updates
        ({"warmup_rollouts": 0}, 0),
        ({"warmup_rollouts": 0, "lr_scheduler_type": "constant"}, 0),
        ({"warmup_rollouts": 3, "warmup_steps": 7}, 7),
        ({"warmup_rollouts": 3, "warmup_steps": 0}, 0),
        ({"warmup_rollouts": 3, "warmup_steps": 0, "lr_scheduler_type": "constant"}, 0),
        ({"warmup_steps": 0.1}, 0.1),
    ],
)
def test_warmup_is_counted_in_rollouts(fields, warmup_steps):
    assert config(**fields).warmup_steps == warmup_steps


@pytest.mark.parametrize(
    ("fields", "num_generations_eval"),
    [
        ({}, 4),  # of the 8 rows of an evaluation batch
        ({"num_generations": 6, "per_device_train_batch_size": 6}, 2),
        ({"per_device_eval_batch_size": 3}, 1),
        ({"per_device_eval_batch_size": 16, "num_generations_eval": 8}, 8),
    ],
)
def test_evaluation_is_fitted_to_its_batch(fields, num_generations_eval):
    args = config(eval_strategy="steps", eval_steps=1, **fields)
    assert args.num_generations_eval == num_generations_eval


def test_a_given_num_generations_eval_must_fit():
    with pytest.raises(ValueError, match=r"eval batch size \(8 \* 1\) must be divisible by .* \(3\)"):
        config(eval_strategy="steps", eval_steps=1, num_generations_eval=3)


# What cannot work: the message names field, value, rule, and what to change


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epsilon": -0.1}, "epsilon=-0.1 is below 0. Set epsilon to 0 or more"),
        ({"epsilon_high": -0.1}, "epsilon_high=-0.1 is below 0. Set epsilon_high to 0 or more"),
        ({"num_generations": 1}, "num_generations=1 is below 2. Set num_generations to 2 or more"),
        ({"updates_per_rollout": 0}, "updates_per_rollout=0 is below 1. Set updates_per_rollout to 1 or more"),
        ({"warmup_rollouts": -1}, "warmup_rollouts=-1 is below 0. Set warmup_rollouts to 0 or more"),
        ({"max_rounds": 0}, "max_rounds=0 is below 1. Set max_rounds to 1 or more"),
        ({"max_oversampling": 0.5}, "max_oversampling=0.5 is below 1. Set max_oversampling to 1 or more"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0 is below 1. Set gradient_accumulation_s"),
        ({"on_shortage": "stop"}, r"on_shortage='stop' is unknown. Set .* to one of \['train_partial', 'raise'\]"),
        ({"on_alarm": "raise"}, r"on_alarm='raise' is unknown. Set on_alarm to one of \['warn', 'stop'\]"),
        ({"eval_rollouts": 0}, "eval_rollouts=0 is below 1. Set eval_rollouts to 1 or more"),
        ({"epsilon": "0.2"}, "epsilon='0.2' is not a finite number. Set epsilon to one."),
        ({"epsilon": None}, "epsilon=None is not a finite number. Set epsilon to one."),
        ({"epsilon_high": NAN}, "epsilon_high=nan is not a finite number. Set epsilon_high to one, or to null."),
        (
            {"updates_per_rollout": 2.0},
            "updates_per_rollout=2.0 is not a whole number. Set updates_per_rollout to one",
        ),
        ({"updates_per_rollout": True}, "updates_per_rollout=True is not a whole number"),
        ({"max_rounds": None}, "max_rounds=None is not a whole number"),
        ({"max_oversampling": NAN}, "max_oversampling=nan is not a finite number"),
        ({"soft_punish_cache": 4.5}, "soft_punish_cache=4.5 is not a whole number. Set .* to one, or to null"),
        ({"correct_threshold": "0.5"}, "correct_threshold='0.5' is not a finite number"),
        ({"beta": -0.1}, "beta=-0.1 is below 0"),
        ({"beta": NAN}, "beta=nan is not a finite number"),
        ({"temperature": NAN}, "temperature=nan is not a finite number"),
        ({"top_p": 0}, "top_p=0 is not above 0. Set top_p to more than 0"),
        ({"top_p": 1.5}, "top_p=1.5 is above 1. Set top_p to 1 or less"),
        ({"max_completion_length": 0}, "max_completion_length=0 is below 1. Set .* to 1 or more, or to null"),
        ({"num_iterations": 0}, "num_iterations=0 is below 1"),
        ({"max_grad_norm": None}, "max_grad_norm=None is not a finite number"),
        (
            {"scale_rewards": "groups"},
            "scale_rewards='groups' is unknown. Set scale_rewards to one of .'group', 'batch'",
        ),
        ({"loss_type": "DAPO"}, "loss_type='DAPO' is unknown. Set loss_type to one of .*'dapo'"),
        ({"importance_sampling_level": "tokens"}, "importance_sampling_level='tokens' is unknown"),
        ({"multi_objective_aggregation": "sum"}, "multi_objective_aggregation='sum' is unknown"),
        ({"vllm_importance_sampling_mode": "mask"}, "vllm_importance_sampling_mode='mask' is unknown"),
        ({"generation_kwargs": [1]}, r"generation_kwargs=\[1\] is not a dictionary. Set .* to one, or to null"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs='x' is not a dictionary"),
        ({"dynamic_sampling": "false"}, "dynamic_sampling='false' is a text, and every text but an empty one counts"),
        ({"disable_dropout": "no"}, "disable_dropout='no' is a text, .* Set disable_dropout to True or False"),
        ({"token_normalization": "batch"}, r"token_normalization='batch' is unknown. Set .* \['step', 'group'\]"),
        ({"push_to_hub": True, "hub_token": ""}, "hub_token is empty, and push_to_hub needs one. Set hub_token to"),
        ({"soft_punish_cache": 0}, "soft_punish_cache=0 tokens must be above 0 .* or to null"),
        ({"soft_punish_cache": -4}, "soft_punish_cache=-4 tokens must be above 0"),
        (
            {"soft_punish_cache": 65, "max_completion_length": 64},
            "soft_punish_cache=65 tokens must be above 0 and at most max_completion_length=64 tokens",
        ),
        (
            {"soft_punish_cache": 8, "max_completion_length": None},
            "soft_punish_cache=8 tokens must be above 0 and at most max_completion_length=None",
        ),
        (
            {"steps_per_generation": 3},
            "steps_per_generation=3 .* multiple of gradient_accumulation_steps=2, .* set updates_per_rollout instead",
        ),
        ({"generation_batch_size": 12}, "steps_per_generation=3 .* must be a multiple of gradient_accumulation_steps"),
        (
            {"warmup_rollouts": 3, "lr_scheduler_type": "constant"},
            "lr_scheduler_type='constant' has no warm-up, but warmup_rollouts=3 .*'constant_with_warmup', or warm",
        ),
        (
            {"warmup_steps": 5, "lr_scheduler_type": "constant"},
            "lr_scheduler_type='constant' has no warm-up, but warmup_steps=5 .*'constant_with_warmup', or warmup",
        ),
        (
            {"token_normalization": "group", "beta": 0.1},
            "token_normalization='group' cannot be combined with beta=0.1: .* Set beta to 0",
        ),
        (
            {"token_normalization": "group", "loss_type": "grpo"},
            r"token_normalization='group' .* loss_type='grpo' .* Set loss_type to one of \['dapo', 'cispo'\]",
        ),
        (
            {"top_entropy_quantile": 0.8},
            "top_entropy_quantile=0.8 cannot be combined with balance_micro_batches: .* Set top_entropy_quantile to 1",
        ),
        ({"entropy_coef": 0.01}, "entropy_coef=0.01 cannot be combined with balance_micro_batches: .* Set entropy_co"),
        (
            {"use_adaptive_entropy": True, "entropy_target": 0.2},
            "use_adaptive_entropy=True cannot be combined with balance_micro_batches",
        ),
        (
            {"loss_type": "grpo", "beta": 0.1},
            "loss_type='grpo' with beta=0.1 cannot train on a partial rollout: .* Set on_shortage to 'raise'",
        ),
        (
            {"loss_type": "dr_grpo", "beta": 0.1},
            "loss_type='dr_grpo' with beta=0.1 cannot train on a partial rollout: .* Set on_shortage to 'raise'",
        ),
        (
            {"loss_type": "cispo"},
            "epsilon_high=0.28 cannot be combined with loss_type='cispo': .* the constant 0.28. Set epsilon_high to 5",
        ),
        ({"loss_type": "cispo", "epsilon_high": None}, "epsilon_high=None .* constant 0.2. Set epsilon_high to 5.0"),
        ({"loss_type": "cispo", "dynamic_sampling": False, "balance_micro_batches": False}, "epsilon_high=0.28 "),
        ({"delta": 1.0}, "delta=1.0 must be above 1: .* Set delta above 1 \\+ epsilon_high=1.28, or to null"),
        (
            {"use_vllm": True, "vllm_importance_sampling_clip_max": 0.28},
            "clip_min=None and vllm_importance_sampling_clip_max=0.28 do not enclose 1.* Set them below and above 1",
        ),
        (
            {
                "use_vllm": True,
                "vllm_importance_sampling_mode": "token_mask",
                "vllm_importance_sampling_clip_min": 1.5,
            },
            "vllm_importance_sampling_clip_min=1.5 and vllm_importance_sampling_clip_max=2.0 do not enclose 1",
        ),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0: .* Set temperature to 1.0"),
        ({"off_policy_mask_threshold": 0.0}, "off_policy_mask_threshold=0.0 must be above 0: .* Set it to 0.5"),
        (
            {"loss_type": "dr_grpo", "max_completion_length": None},
            "loss_type='dr_grpo' divides by max_completion_length, which is None. Set max_completion_length to a",
        ),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 is not supported: .* Set label_smoothing_facto"),
        (
            {"accelerator_config": {"split_batches": True}},
            "accelerator_config.split_batches=True is not supported: .* Set accelerator_config.split_batches to false",
        ),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config.dispatch_batches=True is not suppor"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size .* lower per_device_train_batch_size instead"),  # TRL
    ],
)
def test_what_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_groups_must_divide_the_rollout():
    # One update of 2 * 3 rows holds one and a half groups of 4.
    with pytest.raises(ValueError, match=r"generation_batch_size.*6.*num_generations.*4.*change num_generations, or"):
        config(per_device_train_batch_size=3, updates_per_rollout=1)


@pytest.mark.parametrize("loss_type", ["bnpo", "luspo", "sapo", "vespo"])
@pytest.mark.parametrize(
    "own", [("dynamic_sampling",), ("balance_micro_batches",), ("dynamic_sampling", "balance_micro_batches")]
)
def test_other_losses_are_refused(loss_type, own):
    switched = {name: name in own for name in ("dynamic_sampling", "balance_micro_batches")}
    names = " and ".join(own)
    message = f"loss_type='{loss_type}' cannot be combined with {names}: only .*'dr_grpo'.*set {names} to false"
    with pytest.raises(ValueError, match=message):
        config(loss_type=loss_type, **switched)


@pytest.mark.parametrize(
    "fields",
    [
        {"loss_type": "sapo", "dynamic_sampling": False, "balance_micro_batches": False},
        {"loss_type": "cispo", "epsilon_high": 5.0, "token_normalization": "group"},
        {"loss_type": "cispo", "epsilon_high": 1.0},
        {"delta": 1.3},
        {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
        {"use_vllm": True, "vllm_importance_sampling_clip_min": 0.5},
        {"use_vllm": True, "top_p": 0.9},
        {"temperature": 0.6},
        {"ignore_data_skip": True},
        {"multi_objective_aggregation": "normalize_then_sum"},
        {"loss_type": "dr_grpo"},
        {"loss_type": "grpo", "beta": 0.1, "on_shortage": "raise"},
        {"loss_type": "grpo", "beta": 0.1, "dynamic_sampling": False},
        {"loss_type": "dapo", "beta": 0.1},
        {"top_entropy_quantile": 0.8, "balance_micro_batches": False},
        {"entropy_coef": 0.01, "balance_micro_batches": False},
        {"soft_punish_cache": 64, "max_completion_length": 64},
        {"max_oversampling": 1.0},
        {"min_p": 0.0, "top_k": None},
        {"epsilon_high": 0.0, "epsilon": 0.0},
        {},
        {"updates_per_rollout": 1, "num_iterations": 2},
        {"updates_per_rollout": 1, "epsilon_high": 0.2},
        {"mask_truncated_completions": True},
        {"soft_punish_cache": 8},
        {"use_vllm": True, "max_completion_length": 1024},
        {"use_vllm": True, "vllm_importance_sampling_mode": "sequence_mask", "max_completion_length": 1023},
        {"vllm_importance_sampling_mode": "sequence_mask", "max_completion_length": 1024},
        {"gradient_accumulation_steps": 1, "balance_micro_batches": False},
    ],
)
def test_what_can_be_combined_without_a_warning(fields):
    assert not warnings_of(**fields)


# What works, but probably not as meant


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"updates_per_rollout": 1}, "Clip-higher (epsilon_high=0.28) has no effect"),
        ({"learning_rate": 0.0}, "learning_rate=0: nothing is trained"),
        (
            {"mask_truncated_completions": True, "soft_punish_cache": 8},
            "mask_truncated_completions=True takes truncated completions out of the loss",
        ),
        (
            {"use_vllm": True, "vllm_importance_sampling_mode": "sequence_mask", "max_completion_length": 1024},
            "vllm_importance_sampling_mode='sequence_mask' with max_completion_length=1024",
        ),
        (
            {"gradient_accumulation_steps": 1},
            "balance_micro_batches=True with gradient_accumulation_steps=1: an optimizer step is one micro-batch",
        ),
        ({"epsilon_high": 0.1}, "epsilon_high=0.1 is below epsilon=0.2: the reverse of clip-higher"),
        ({"epsilon_high": 5.0, "epsilon": 3.0}, "epsilon=3.0: the ratio is never below 1 - epsilon"),
        (
            {"importance_sampling_level": "sequence"},
            "epsilon=0.2 and epsilon_high=0.28 with importance_sampling_level='sequence': the ratio of a sequence",
        ),
        ({"delta": 1.28}, "delta=1.28 is not above 1 + epsilon_high=1.28: it takes the place of epsilon_high"),
        (
            {"multi_objective_aggregation": "normalize_then_sum", "soft_punish_cache": 8},
            "multi_objective_aggregation='normalize_then_sum' with soft_punish_cache=8",
        ),
        ({"top_p": 0.9, "top_k": 50}, "top_p=0.9, top_k=50: completions are drawn from another distribution"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1: completions are drawn from another distribution"),
        ({"min_p": 0.1}, "min_p=0.1: completions are drawn from another distribution"),
        ({"use_vllm": True, "vllm_importance_sampling_correction": False, "top_k": 9}, "top_k=9: completions are dr"),
        ({"logging_strategy": "epoch"}, "logging_strategy='epoch': rollouts are not logged one by one"),
        ({"loss_type": "cispo", "epsilon_high": 5.0, "epsilon": 0.1}, "epsilon=0.1 has no effect with loss_type='ci"),
        ({"loss_type": "cispo", "epsilon_high": 5.0, "delta": 0.5}, "delta=0.5 has no effect with loss_type='cispo'"),
        ({"vespo_k_pos": 1.0}, "vespo_k_pos=1.0 has no effect with loss_type='dapo'. Leave out vespo_k_pos"),
        ({"overlong_weight": 0.5}, "overlong_weight=0.5 has no effect with soft_punish_cache=None"),
        ({"dynamic_sampling": False, "max_rounds": 3}, "max_rounds=3 has no effect with dynamic_sampling=False"),
        ({"ref_model_sync_steps": 64}, "ref_model_sync_steps=64 has no effect with sync_ref_model=False"),
        (
            {"updates_per_rollout": 1, "epsilon_high": 0.2, "off_policy_mask_threshold": 0.5},
            "off_policy_mask_threshold=0.5 has no effect with one optimizer step per rollout",
        ),
        ({"data_seed": 3}, "data_seed=3 has no effect"),
        ({"include_num_input_tokens_seen": "all"}, "include_num_input_tokens_seen=all has no effect with TRL"),
    ],
)
def test_a_warning_is_given_once_and_points_to_the_caller(fields, message):
    (warning,) = warnings_of(**fields)
    assert message in str(warning.message)
    assert warning.filename == __file__


# What is counted in rollouts


def test_one_log_per_rollout():
    assert config(num_iterations=2).logging_steps == 12
    assert config(generation_batch_size=32).logging_steps == 4
    assert config(logging_steps=5).logging_steps == 5


def test_evaluation_is_counted_in_rollouts():
    ours = config(eval_rollouts=3, num_iterations=2)
    assert (ours.eval_strategy, ours.eval_steps) == ("steps", 36)  # 6 updates, twice, 3 rollouts
    assert config(eval_rollouts=3, steps_per_generation=8).eval_steps == 12  # accumulation 2
    assert config(eval_strategy="steps").eval_steps == 6
    assert config().eval_strategy == "no"


@pytest.mark.parametrize(
    "fields",
    [{"eval_steps": 4}, {"eval_strategy": "epoch"}, {"generation_batch_size": 32}],
    ids=lambda f: next(iter(f)),
)
def test_evaluation_has_one_interval(fields):
    name = next(iter(fields))
    with pytest.raises(ValueError, match=f"eval_rollouts=3 cannot be combined with {name}=.*Leave out one"):
        config(eval_rollouts=3, **fields)


def test_the_best_model_is_that_of_the_best_accuracy():
    ours = config(eval_rollouts=1, save_steps=6, load_best_model_at_end=True, num_generations_eval=2)
    assert (ours.metric_for_best_model, ours.greater_is_better) == ("eval_avg@2", True)
    other = config(metric_for_best_model="eval_reward", load_best_model_at_end=True, eval_rollouts=1, save_steps=6)
    assert other.metric_for_best_model == "eval_reward"
    assert config(metric_for_best_model="gsm8k_avg@k", num_generations_eval=4).metric_for_best_model == "gsm8k_avg@4"


# Waits for a vLLM server


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(DAPOConfig, "world_size", 2)


SERVER = {"use_vllm": True, "vllm_mode": "server"}


def test_several_processes_and_a_server_need_no_other_settings(two_processes):
    assert not warnings_of(**SERVER)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"vllm_request_timeout": 1800},
            "vllm_request_timeout=1800 is too long for ddp_timeout=1800: while the main one of 2 processes waits.*"
            "lower vllm_request_timeout to 1740 or less, or raise ddp_timeout to 1860 or more",
        ),
        ({"vllm_server_timeout": 900, "vllm_request_timeout": 60, "ddp_timeout": 600}, "vllm_server_timeout=900 is"),
    ],
)
def test_processes_that_would_not_wait_for_the_server(two_processes, fields, message):
    with pytest.raises(ValueError, match=message):
        config(**SERVER | fields)


def test_processes_that_wait_as_long_as_they_must(two_processes, monkeypatch):
    config(**SERVER, vllm_request_timeout=3540, vllm_server_timeout=3540, ddp_timeout=3600)
    config(use_vllm=True, vllm_mode="colocate", vllm_request_timeout=1800)
    monkeypatch.setattr(DAPOConfig, "world_size", 1)
    config(**SERVER, vllm_request_timeout=1800, vllm_server_timeout=3600)


def test_on_a_cpu_processes_wait_half_an_hour_whatever_is_set(two_processes):
    """Which a configuration does not refuse, because recipes are read, and estimated, on machines without GPUs."""
    with pytest.raises(ValueError, match="vllm_request_timeout=1800 is too long for the 1800 seconds of use_cpu"):
        check_weight_transfer(config(**SERVER, vllm_request_timeout=1800, ddp_timeout=7200))


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "http://node:8000/", "http://node:8000/v1", "ftp://node", "", "http://node:80000"),
        *("http://node:8000x", "http://node:0", "http://node:8000?a=1", "http://[::1:8000"),
    ],
)
def test_an_address_that_is_no_servers(url):
    with pytest.raises(ValueError, match=re.escape(f"vllm_server_base_url='{url}' must be the root of the server")):
        config(**SERVER, vllm_server_base_url=url)


@pytest.mark.parametrize(
    ("host", "port"), [("http://node", 8000), ("node:8000", 8000), ("", 8000), ("::1", 8000), ("node", 0)]
)
def test_a_host_that_is_none(host, port):
    message = f"vllm_server_host={host!r} and vllm_server_port={port} must be the name or IPv4 address of a machine"
    with pytest.raises(ValueError, match=message):
        config(**SERVER, vllm_server_host=host, vllm_server_port=port)


@pytest.mark.parametrize(
    "fields",
    [
        {"vllm_server_base_url": "http://[::1]:8000"},
        {"vllm_server_base_url": "https://me:pw@node/proxy"},
        {"vllm_server_host": "node-7.cluster"},
        {"vllm_server_host": "10.0.0.7"},
    ],
)
def test_addresses_of_servers(fields):
    config(**SERVER, **fields)
