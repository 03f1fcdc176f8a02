"""The tiny model: its tokenizer comes back from disk unchanged, its warm start learns, its texts end."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.arithmetic import Sum, split_sums, work_out
from demo.evaluate import sample
from demo.model import build_model, build_tokenizer
from demo.warm_start import IGNORED, collate, encode, warm_start


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_tokens_are_characters_and_one_word(tokenizer):
    tokens = tokenizer.tokenize("7+5=12\nAnswer: 72")
    assert tokens == ["7", "+", "5", "=", "1", "2", "Ċ", "Answer", ":", "Ġ", "7", "2"]


def test_tokenizer_round_trip_keeps_ids(tokenizer, tmp_path):
    build_model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    texts = [item.problem + work_out(item, rng, slip_rate=0.3) for item in split_sums(seed=0)[1]]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded.batch_decode(loaded(texts)["input_ids"]) == texts
    for name in ("eos_token_id", "pad_token_id"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.eos_token_id != loaded.pad_token_id
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id == loaded.eos_token_id


def test_model_has_about_a_million_parameters_and_is_seeded(tokenizer):
    first, same, other = (build_model(tokenizer, seed) for seed in (0, 0, 1))
    assert 0.7e6 < first.num_parameters() < 1.3e6
    weights = [model.lm_head.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_supervised_batch_labels_only_the_solution(tokenizer):
    rows = [encode(tokenizer, "47+25=?", "Answer: 72"), encode(tokenizer, "1+1=?", "2")]
    batch = collate(rows, tokenizer.pad_token_id)
    assert [len(ids) for ids, _ in rows] == [7 + 5 + 1, 5 + 1 + 1]
    assert batch["attention_mask"].sum(1).tolist() == [13, 7]
    labels = batch["labels"]
    assert (labels[0, :7] == IGNORED).all()
    assert labels[0, 7:].tolist() == [*tokenizer("Answer: 72")["input_ids"], tokenizer.eos_token_id]
    assert (
        labels[1].tolist() == [IGNORED] * 5 + [tokenizer("2")["input_ids"][0], tokenizer.eos_token_id] + [IGNORED] * 6
    )


def test_warm_start_lowers_the_loss_and_texts_end(tokenizer, tmp_path):
    model = build_model(tokenizer, seed=0)
    losses = warm_start(model, tokenizer, [Sum(47, 25)], seed=0, num_steps=60, batch_size=8, slip_rate=0.0)
    assert losses[0] == pytest.approx(4.6, abs=0.5)  # ln 103: nothing is known yet
    assert losses[-1] < 0.3
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "7+5=12\n4+2+1=7\nAnswer: 72" in sample(tmp_path, ["47+25=?"] * 8, seed=0)
