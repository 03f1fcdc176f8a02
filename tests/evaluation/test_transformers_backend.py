"""Completions from a Transformers model: seeded by row, whatever stands beside it."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dapo_trl.data.records import Record
from dapo_trl.evaluation.backends.transformers import SeededSampling, TransformersSampler
from dapo_trl.evaluation.completions import Completion, make_requests
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.model import find_model, load_tokenizer
from tests.command import save_model
from tests.helpers import EOS, VOCABULARY, char_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


PROMPTS = ("1+1=", "a much longer prompt: 2+3=", "3=")


def sampler(model: str, **fields) -> TransformersSampler:
    config = EvaluateConfig(model=model, data="x", **{"max_completion_length": 12, "dtype": "float32"} | fields)
    return TransformersSampler(config, find_model(model), load_tokenizer(model))


def requests(k: int = 4, prompts: tuple[str, ...] = PROMPTS):
    records = [Record(prompt, prompt, "1", prompt, "test") for prompt in prompts]
    return make_requests(records, k, 7, char_tokenizer())


def sample(sampler: TransformersSampler, requests: list) -> dict:
    completions = {}
    sampler.sample(requests, lambda asked, sampled: completions.update({(asked.problem, asked.sample): sampled}))
    return completions


def test_a_completion_does_not_depend_on_its_batch(model):
    together = sample(sampler(model, batch_size=12), requests())
    apart = sample(sampler(model, batch_size=1), requests())
    assert together == apart
    assert len({completion.text for completion in together.values()}) > 6  # and they are different samples


def test_the_first_samples_are_the_same_with_a_larger_k(model):
    few, many = (sample(sampler(model), requests(k)) for k in (2, 5))
    assert few.items() < many.items()


def test_completions_that_have_ended_leave_the_batch(model):
    loaded, num_rows = sampler(model, max_completion_length=40), []
    loaded.model.register_forward_hook(lambda module, args, output: num_rows.append(len(output.logits)))
    completions = sample(loaded, requests(k=10))
    ended = sorted(completion.num_tokens for completion in completions.values() if not completion.is_truncated)
    assert len(ended) >= 8  # a quarter of the batch
    assert num_rows[0] == 30 and num_rows[-1] < 30 - len(ended) / 2
    assert num_rows == sorted(num_rows, reverse=True)


def test_lengths_and_truncation(model):
    completions = sample(sampler(model, max_completion_length=40), requests(k=16))
    truncated = [completion for completion in completions.values() if completion.is_truncated]
    ended = [completion for completion in completions.values() if not completion.is_truncated]
    assert truncated and {completion.num_tokens for completion in truncated} == {40}
    assert ended and all(completion.num_tokens <= 40 and "<eos>" not in completion.text for completion in ended)


def test_the_token_that_ends_a_completion_counts(model):
    a, b, pad = (VOCABULARY[token] for token in ("a", "b", "<pad>"))
    loaded = sampler(model)
    assert loaded._completion([a, b, EOS, pad]) == Completion("ab", 3, is_truncated=False)
    assert loaded._completion([a, b, a, b]) == Completion("abab", 4, is_truncated=True)


def test_greedy_is_what_generate_returns(model):
    loaded = sampler(model, temperature=0.0, k=1)
    completion = sample(loaded, requests(k=1, prompts=("1+1=",)))["1+1=", 0]
    inputs = loaded.tokenizer("1+1=", return_tensors="pt")
    output = AutoModelForCausalLM.from_pretrained(model).generate(**inputs, do_sample=False, max_new_tokens=12)
    expected = output[0, inputs["input_ids"].shape[1] :].tolist()
    assert completion.text == loaded.tokenizer.decode(expected, skip_special_tokens=True)


def test_the_models_own_generation_settings_do_not_count(model, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(model)
    loaded.generation_config.update(do_sample=True, top_k=1, repetition_penalty=5.0, eos_token_id=[EOS, 20])
    loaded.save_pretrained(tmp_path)
    load_tokenizer(model).save_pretrained(tmp_path)
    tuned = sampler(str(tmp_path))
    assert tuned.eos_ids == [EOS, 20]  # what ends a completion does
    tuned.model.generation_config.eos_token_id = tuned.eos_ids = [EOS]
    assert sample(tuned, requests()) == sample(sampler(model), requests())


def test_seeded_sampling_draws_from_the_softmax():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    scores = probabilities.log().expand(4000, 5)  # the last token is taken out, as by top-p
    drawn = SeededSampling(range(4000), torch.device("cpu"))(None, scores).argmax(dim=-1)
    frequencies = torch.bincount(drawn, minlength=5) / 4000
    assert frequencies[4] == 0
    assert (frequencies - probabilities).abs().max() < 0.025  # three standard deviations


@pytest.mark.parametrize(
    ("fields", "num_tokens"), [({"top_k": 1}, 1), ({"top_p": 0.01}, 1), ({"temperature": 1e-4}, 1)]
)
def test_every_sampling_setting_counts(model, fields, num_tokens):
    texts = {completion.text for completion in sample(sampler(model, **fields), requests(8, ("1+1=",))).values()}
    assert len(texts) == num_tokens


def test_a_lora_adapter(model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    adapter = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapter.save_pretrained(tmp_path)
    files = find_model(str(tmp_path))
    assert (files.base, files.name) == (model, str(tmp_path))
    config = EvaluateConfig(model=str(tmp_path), data="x", max_completion_length=12, dtype="float32")
    adapted = sample(TransformersSampler(config, files, load_tokenizer(model)), requests())
    merged = tmp_path / "merged"
    adapter.merge_and_unload().save_pretrained(merged)
    load_tokenizer(model).save_pretrained(merged)
    assert adapted == sample(sampler(str(merged)), requests())
    assert adapted != sample(sampler(model), requests())
