"""End tokens given in `generation_kwargs` count wherever completions are counted; what would go wrong is refused."""

import json
import os
from types import SimpleNamespace
from unittest import mock

import pytest
from peft import LoraConfig
from transformers import GenerationConfig
from trl.generation import vllm_generation

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.generation.kwargs import FIELDS, SAMPLING_KEYS, end_tokens

from ..helpers import BASE_CONFIG, EOS, VOCABULARY, build, char_tokenizer, prompt_dataset, tiny_model
from ..scripted_groups import read_table
from .test_vllm_colocated import Engine, weights_of


PAD = VOCABULARY["<pad>"]
MANY = list(range(20, 60))
"""A third of the vocabulary: a random model soon ends at one of them."""


class Rewards:
    """Odd first tokens are right; remembers all completions."""

    __name__ = "odd"

    def __init__(self):
        self.seen: list[list[int]] = []

    def __call__(self, completion_ids, **kwargs):
        self.seen += completion_ids
        return [1.0 if ids[0] % 2 else -1.0 for ids in completion_ids]


def run(config: dict, **arguments) -> tuple[DAPOTrainer, list[list[int]]]:
    rewards = Rewards()
    config = {"max_steps": 2, "max_completion_length": 8} | config
    trainer = build(DAPOTrainer, config, reward_funcs=rewards, rollout_func=None, **arguments)
    trainer.train()
    return trainer, rewards.seen


def model_with_ends(tokens: list[int]):
    """A model whose generation configuration has more end tokens than the tokenizer."""
    model = tiny_model()
    model.generation_config.eos_token_id = tokens
    return model


def tokenizer_padding_with_an_end(token: str):
    tokenizer = char_tokenizer()
    tokenizer.pad_token = token
    return tokenizer


CASES = {
    "a list": ({}, {"eos_token_id": [EOS, *MANY]}, {EOS, *MANY}, {}),
    "one token": ({}, {"eos_token_id": 30, "suppress_tokens": list(range(40, 128))}, {30}, {}),
    "without the tokenizer's": ({}, {"eos_token_id": MANY}, set(MANY), {}),
    "of the model": ({}, {}, {EOS, *MANY}, {"model": lambda: model_with_ends([EOS, *MANY])}),
    "of the model, and others": ({}, {"eos_token_id": MANY}, set(MANY), {"model": lambda: model_with_ends([EOS, 70])}),
    "whole batches": ({"compact_generation": False}, {"eos_token_id": MANY}, set(MANY), {}),
    "TRL's batches": (
        {"dynamic_sampling": False, "balance_micro_batches": False},
        {"eos_token_id": MANY},
        set(MANY),
        {},
    ),
    "continuous batching": ({"use_transformers_continuous_batching": True}, {"eos_token_id": MANY}, set(MANY), {}),
    "padding with an end": (
        {},
        {"eos_token_id": MANY},
        set(MANY),
        {"processing_class": lambda: tokenizer_padding_with_an_end("<eos>")},
    ),
    "padding with another token": ({}, {"eos_token_id": MANY, "pad_token_id": 7}, set(MANY), {}),
}
"""Settings, `generation_kwargs`, the tokens that end completions, and arguments of the trainer."""


@pytest.mark.parametrize("name", CASES)
def test_a_completion_ends_with_its_first_end_token(name):
    config, generation_kwargs, ends, makers = CASES[name]
    config |= {"generation_kwargs": generation_kwargs}
    trainer, seen = run(config, **{argument: make() for argument, make in makers.items()})
    assert set(trainer.eos_token_ids) == ends
    assert not any(ends & set(ids[:-1]) for ids in seen)
    has_ended = [ids[-1] in ends for ids in seen]
    assert any(has_ended)
    assert all(len(ids) == 8 for ids, ended in zip(seen, has_ended, strict=True) if not ended)
    # The metrics of both rollouts, by hand: padding counts as an end, too, when a model happens to draw it.
    clipped = [record["completions/clipped_ratio"] for record in trainer.state.log_history[:2]]
    mean_length = [record["completions/mean_length"] for record in trainer.state.log_history[:2]]
    ends_or_padding = ends | {trainer.processing_class.pad_token_id}
    first = len(seen) // 2 if "TRL" in name else seen_in_first_rollout(trainer, seen)
    for rows, ratio, length in zip((seen[:first], seen[first:]), clipped, mean_length, strict=True):
        assert ratio == pytest.approx(sum(ids[-1] not in ends_or_padding for ids in rows) / len(rows))
        assert length == pytest.approx(sum(map(len, rows)) / len(rows))


def seen_in_first_rollout(trainer: DAPOTrainer, seen: list[list[int]]) -> int:
    first, second = (record["dynamic_sampling/generated_per_trained"] for record in trainer.state.log_history[:2])
    return round(len(seen) * first / (first + second))


def test_everything_that_counts_knows_them(tmp_path):
    """The table, the punishment, the mask of what is cut off, the evaluation, and what is saved."""
    config = {
        "generation_kwargs": {"eos_token_id": MANY},
        "log_completions": True,
        "num_completions_to_print": 0,
        "soft_punish_cache": 4,
        "mask_truncated_completions": True,
        "output_dir": str(tmp_path),
        "save_strategy": "steps",
        "save_steps": 2,
    }
    with pytest.warns(UserWarning, match="mask_truncated_completions"):
        trainer, seen = run(config, eval_dataset=prompt_dataset(4))
    is_cut_off = [ids[-1] not in (*MANY, PAD) for ids in seen]
    rows = [row for step in (1, 2) for row in read_table(str(tmp_path), step)]
    assert len(rows) == len(seen)
    assert sum(row["is_truncated"] for row in rows) == sum(is_cut_off)
    assert sorted(row["num_tokens"] for row in rows) == sorted(map(len, seen))
    assert all(row["soft_overlong_punishment"] == -max(0, row["num_tokens"] - 4) / 4 for row in rows)
    # Rows that are cut off are not trained on; the others to their last token.
    for row in trainer.batcher.rollout.rows.values():
        ids = row["completion_ids"][row["completion_mask"].bool()].tolist()
        assert ids == [] or (ids[-1] in {*MANY, PAD} and not set(MANY) & set(ids[:-1]))
    saved = json.loads((tmp_path / "checkpoint-2" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == MANY
    evaluation = trainer.evaluate()
    assert evaluation["eval_completions/mean_length"] < 8
    assert evaluation["eval_completions/clipped_ratio"] < 0.5


def test_the_generation_configuration_is_what_counts():
    """Whatever reaches Transformers, the trainer counts by the same tokens."""
    for tokens in ([30, 31], 30, (30, 31)):
        trainer = build(DAPOTrainer, {"generation_kwargs": {"eos_token_id": tokens}}, rollout_func=None)
        generated = trainer.generation_config.eos_token_id
        assert trainer.eos_token_ids == ([generated] if isinstance(generated, int) else list(generated))


@pytest.mark.parametrize(
    ("use_vllm", "generation_kwargs", "expected"),
    [
        (False, None, [1, 4]),
        (False, {"top_k": 0}, [1, 4]),
        (False, {"eos_token_id": 5}, [5]),
        (False, {"eos_token_id": [4, 5, 5]}, [4, 5]),
        (True, None, [1, 4]),
        (True, {"stop_token_ids": [5, 4]}, [1, 4, 5]),
    ],
)
def test_end_tokens(use_vllm, generation_kwargs, expected):
    config = DAPOConfig("unused", use_cpu=True, bf16=False, use_vllm=use_vllm, generation_kwargs=generation_kwargs)
    assert end_tokens(config, [1, 4], vocab_size=128) == expected


OWN = {
    "num_beams": 2,
    "no_repeat_ngram_size": 2,
    "typical_p": 0.1,
    "min_p": 0.5,
    "suppress_tokens": [10, 11, 12],
    "forced_eos_token_id": 30,
    "stop_strings": ["a"],
    "max_time": 0.001,
    "num_return_sequences": 2,
    "exponential_decay_length_penalty": (1, 5.0),
    "return_dict_in_generate": True,
    "prompt_lookup_num_tokens": 3,
}


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_settings_change_nothing(name, caplog):
    _, expected = run({"max_steps": 1})
    assert "model.generation_config" not in caplog.text
    model = tiny_model()
    setattr(model.generation_config, name, OWN[name])
    trainer, seen = run({"max_steps": 1}, model=model)
    assert seen == expected
    assert getattr(trainer.model.generation_config, name) == OWN[name]  # as it will be saved
    if name not in ("return_dict_in_generate", "prompt_lookup_num_tokens"):  # nothing else is drawn with these
        assert f"model.generation_config has {name}={OWN[name]}: completions would be drawn" in caplog.text


@pytest.mark.parametrize(
    "config", [{"dynamic_sampling": False, "balance_micro_batches": False}, {"compact_generation": False}]
)
def test_the_own_settings_of_a_model_with_an_adapter(config):
    model = tiny_model()
    model.generation_config.suppress_tokens = list(range(5, 60))
    _, seen = run({"max_steps": 1} | config, model=model, peft_config=LoraConfig(r=4, target_modules=["q_proj"]))
    assert any(5 <= token < 60 for ids in seen for token in ids)


# What is refused


def config(use_vllm: bool = False, **generation_kwargs) -> DAPOConfig:
    fields = {name: BASE_CONFIG[name] for name in ("use_cpu", "bf16", "max_completion_length")}
    fields |= {"temperature": 0.8, "top_p": 0.9, "use_vllm": use_vllm}
    return DAPOConfig("unused", **fields, generation_kwargs=generation_kwargs)


REFUSED = {
    "transformers": {
        "stop_strings": (["a"], "no end token.*eos_token_id takes one or several"),
        "stop_token_ids": ([5], "vLLM's name.*eos_token_id"),
        "eos_token_id": ([], "must end somewhere"),
        "do_sample": (False, "would be the same"),
        "num_beams": (4, "searched for instead of sampled"),
        "num_return_sequences": (2, "TRL repeats every prompt"),
        "max_new_tokens": (5, "contradicts max_completion_length=16.*Set max_completion_length to 5"),
        "max_length": (50, "max_completion_length bounds"),
        "max_time": (1.0, "the clock"),
        "temperature": (0.5, "contradicts temperature=0.8.*Set temperature to 0.5"),
        "top_p": (0.5, "contradicts top_p=0.9"),
        "top_k": (5, "contradicts top_k=0"),
        "min_p": (0.1, "contradicts min_p=None"),
        "repetition_penalty": (1.1, "contradicts repetition_penalty=1.0"),
        "forced_eos_token_id": (EOS, "would look like one that has ended"),
        "guidance_scale": (2.0, "another distribution"),
        "logits_processor": ([print], "is unknown, or not made for training.*eos_token_id"),
        "prompt_lookup_num_tokens": (3, "is unknown, or not made for training"),
        "disable_compile": (True, "is unknown, or not made for training"),
        "repitition_penalty": (1.1, "is unknown, or not made for training"),
    },
    "vllm": {
        "stop": (["a"], "no end token.*stop_token_ids takes them"),
        "eos_token_id": (5, "Transformers' name.*stop_token_ids"),
        "stop_token_ids": ([True], "given by number"),
        "ignore_eos": (True, "behind their end"),
        "n": (4, "num_generations"),
        "max_tokens": (5, "contradicts max_completion_length=16"),
        "temperature": (0.5, "contradicts temperature=0.8"),
        "logprobs": (5, "the first value for that of the sampled token"),
        "prompt_logprobs": (1, "is unknown, or not made for training.*stop_token_ids"),
        "stream": (True, "is unknown, or not made for training"),
        "pad_token_id": (0, "is unknown, or not made for training"),
    },
}


@pytest.mark.parametrize(
    ("backend", "name"), [(backend, name) for backend, names in REFUSED.items() for name in names]
)
def test_refused(backend, name):
    value, reason = REFUSED[backend][name]
    with pytest.raises(ValueError, match=rf"^generation_kwargs=\{{'{name}': .*{reason}"):
        config(backend == "vllm", **{name: value})


@pytest.mark.parametrize("value", [None, True, "5", [-1], [1.0], [[5]]])
def test_end_tokens_that_are_none(value):
    with pytest.raises(ValueError, match=r"eos_token_id': .*must end somewhere.*list of token ids"):
        config(eos_token_id=value)


def test_tokens_that_the_model_does_not_have():
    with pytest.raises(ValueError, match="the model has no token 128, only 128 tokens.*Set eos_token_id to tokens of"):
        build(DAPOTrainer, {"generation_kwargs": {"eos_token_id": [EOS, 128]}}, rollout_func=None)


def test_what_changes_nothing_is_taken():
    same = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 16, "num_beams": 1, "do_sample": True}
    assert config(**same).generation_kwargs == same
    config(use_vllm=True, temperature=0.8, max_tokens=16, ignore_eos=False, stop=[], logprobs=0)
    config(min_p=0.0, num_return_sequences=1)
    config(use_vllm=True, min_p=0.0)
    assert config(suppress_tokens=[5], min_new_tokens=2).generation_kwargs["suppress_tokens"] == [5]


def test_a_text_on_the_command_line_is_read():
    with pytest.raises(ValueError, match="contradicts max_completion_length"):
        DAPOConfig("unused", use_cpu=True, bf16=False, generation_kwargs='{"max_new_tokens": 5}')


def test_the_keys_are_those_of_transformers():
    known = vars(GenerationConfig())
    assert (SAMPLING_KEYS["transformers"] | FIELDS.keys()) - known.keys() == {"max_tokens"}


# With vLLM


class RandomEngine(Engine):
    """Draws tokens until one of `stop_token_ids`: it knows of no other end, as with a model of fewer end tokens."""

    def generate(self, prompts, sampling_params, use_tqdm):
        self.sampling_params = sampling_params
        return super().generate(prompts, sampling_params, use_tqdm)

    def _answer(self, prompt_ids):
        ids = []
        while len(ids) < self.sampling_params.max_tokens and not set(ids) & set(self.sampling_params.stop_token_ids):
            ids.append(self.random.randrange(len(VOCABULARY)))
        logprobs = [{token: SimpleNamespace(rank=1, logprob=-4.0)} for token in ids]
        outputs = [SimpleNamespace(token_ids=ids, logprobs=logprobs)]
        return SimpleNamespace(prompt_token_ids=prompt_ids, outputs=outputs)


@pytest.mark.parametrize("ends", [{"stop_token_ids": [EOS, *MANY]}, {"stop_token_ids": MANY}, {"bad_words": ["x"]}])
def test_vllm_stops_where_the_trainer_counts(ends, monkeypatch):
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    for name, stand_in in {"LLM": RandomEngine, "SamplingParams": SimpleNamespace}.items():
        monkeypatch.setattr(vllm_generation, name, stand_in, raising=False)
    config = {"use_vllm": True, "vllm_mode": "colocate", "max_completion_length": 8, "generation_kwargs": dict(ends)}
    rewards, model = Rewards(), model_with_ends([EOS, 70])
    with mock.patch.dict(os.environ):  # TRL sets variables that would make later trainers distributed
        trainer = build(DAPOTrainer, config | {"max_steps": 2}, model=model, reward_funcs=rewards, rollout_func=None)
    trainer.vllm_generation.llm.expected = lambda: weights_of(trainer.model)
    trainer.train()
    expected = {EOS, 70, *ends.get("stop_token_ids", [])}
    assert set(trainer.eos_token_ids) == set(trainer.vllm_generation.llm.sampling_params.stop_token_ids) == expected
    assert getattr(trainer.vllm_generation.llm.sampling_params, "bad_words", None) == ends.get("bad_words")
    assert trainer.args.generation_kwargs == ends  # the user's own object
    assert not any(expected & set(ids[:-1]) for ids in rewards.seen)
    assert any(ids[-1] in expected for ids in rewards.seen)
