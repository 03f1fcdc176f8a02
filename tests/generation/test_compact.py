"""Rows that have ended leave the batch: tokens from the same distribution, with less computation."""

import contextlib

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from dapo_trl import DAPOTrainer
from dapo_trl.generation.compact import dropping_ended_rows
from tests.helpers import EOS, VOCABULARY, build, tiny_model, weights


PAD, IM_END = VOCABULARY["<pad>"], VOCABULARY["<|im_end|>"]
LENGTHS = (9, 1, 4, 12, 2, 2, 7, 3, 12, 6, 5, 11, 8, 10, 3, 1)
"""Tokens of each row's completion."""
FIRST_ROW = 100
"""The prompt of row i ends with the token FIRST_ROW + i, by which a row is known wherever it stands in the batch."""
PROMPTS = [[*range(10, 10 + 3 * i % 5), FIRST_ROW + i] for i in range(len(LENGTHS))]
WIDTH = max(map(len, PROMPTS))
NUM_ROWS = [16, 14, 12, 10, 10, 8, 7, 6, 5, 4, 3, 2]
"""Of these lengths, rows in each forward pass: they are dropped when two have ended, of 8 or fewer when one has."""


class Script(LogitsProcessor):
    """
    Ends row i after LENGTHS[i] tokens: even rows by `<eos>`, odd rows by `<|im_end|>`.

    Args:
        has_all_tokens (`bool`): prescribes the other tokens, too.

    Attributes:
        seen (`dict`): what the model and the processors before this one said, by row and position.
    """

    def __init__(self, has_all_tokens: bool = False):
        self.has_all_tokens = has_all_tokens
        self.seen: dict[tuple[int, int], torch.Tensor] = {}

    def __call__(self, input_ids, scores):
        position, scores = input_ids.shape[1] - WIDTH, scores.clone()
        for i, row in enumerate((input_ids[:, WIDTH - 1] - FIRST_ROW).tolist()):
            if position >= LENGTHS[row]:
                continue
            self.seen[row, position] = scores[i].clone()
            is_last = position + 1 == LENGTHS[row]
            if is_last or self.has_all_tokens:
                token = (EOS, IM_END)[row % 2] if is_last else 10 + (7 * row + 3 * position) % 80
                scores[i] = -torch.inf
                scores[i, token] = 0
            else:
                scores[i, [EOS, IM_END]] = -torch.inf
        return scores


@contextlib.contextmanager
def counted_rows(model: torch.nn.Module):
    """A list of the rows in each forward pass of the model's output layer."""
    num_rows = []
    hook = model.get_output_embeddings().register_forward_hook(lambda *args: num_rows.append(len(args[1][0])))
    yield num_rows
    hook.remove()


def generate(model: PreTrainedModel, is_dropping: bool, script: Script | None = None, **fields):
    """Prompts and completions, of shape `(16, T)`, and the rows in each forward pass."""
    defaults = {"max_new_tokens": 12, "do_sample": True, "pad_token_id": PAD, "eos_token_id": [EOS, IM_END]}
    config = GenerationConfig(**defaults | fields)
    context = dropping_ended_rows(model, config) if is_dropping else contextlib.nullcontext()
    torch.manual_seed(0)
    with context, counted_rows(model) as num_rows:
        tokens = model.generate(
            input_ids=torch.tensor([[PAD] * (WIDTH - len(ids)) + ids for ids in PROMPTS]),
            attention_mask=torch.tensor([[0] * (WIDTH - len(ids)) + [1] * len(ids) for ids in PROMPTS]),
            generation_config=config,
            logits_processor=LogitsProcessorList([script or Script()]),
        )
    return tokens, num_rows


def lora_model() -> PreTrainedModel:
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return model.eval()


def sliding_window_model() -> PreTrainedModel:
    """Its window of 6 tokens is shorter than what is generated."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return MistralForCausalLM(MistralConfig(vocab_size=128, num_key_value_heads=2, sliding_window=6, **shape)).eval()


@pytest.mark.parametrize("make_model", [tiny_model, lora_model, sliding_window_model])
@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 2}])
def test_greedy_tokens_are_those_of_the_whole_batch(make_model, fields):
    model = make_model()
    expected, all_rows = generate(model, is_dropping=False, do_sample=False, **fields)
    tokens, num_rows = generate(model, is_dropping=True, do_sample=False, **fields)
    assert torch.equal(tokens, expected)
    assert all_rows == [16] * 12
    assert num_rows == NUM_ROWS


def test_every_token_is_drawn_from_the_same_distribution():
    fields = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "repetition_penalty": 1.3}
    expected, actual = Script(has_all_tokens=True), Script(has_all_tokens=True)
    tokens, _ = generate(tiny_model(), False, expected, **fields)
    dropped_tokens, num_rows = generate(tiny_model(), True, actual, **fields)
    assert torch.equal(dropped_tokens, tokens)
    assert num_rows == NUM_ROWS
    assert len(expected.seen) == sum(LENGTHS)
    assert actual.seen.keys() == expected.seen.keys()
    for key, scores in expected.seen.items():
        torch.testing.assert_close(actual.seen[key], scores, rtol=0, atol=1e-5)


def test_sampled_completions_are_reproducible():
    tokens, num_rows = generate(tiny_model(), is_dropping=True)
    again, _ = generate(tiny_model(), is_dropping=True)
    assert num_rows == NUM_ROWS
    assert torch.equal(tokens, again)
    for row, length in enumerate(LENGTHS):
        completion = tokens[row, WIDTH:].tolist()
        assert completion[length - 1] == (EOS, IM_END)[row % 2]
        assert completion[length:] == [PAD] * (12 - length)


def test_bfloat16():
    model = tiny_model(dtype=torch.bfloat16)
    before = weights(model)
    _, num_rows = generate(model, is_dropping=True)
    assert num_rows == NUM_ROWS
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.equal(weights(model), before)


def mamba_model() -> PreTrainedModel:
    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2, state_size=4)).eval()


def prompt_tuned_model() -> PreTrainedModel:
    return get_peft_model(tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()


LEFT_ALONE = {
    "static cache": (tiny_model, {"cache_implementation": "static", "disable_compile": True}),
    "no cache": (tiny_model, {"use_cache": False}),
    "prompt in chunks": (tiny_model, {"prefill_chunk_size": 2}),
    "beams": (tiny_model, {"num_beams": 2, "do_sample": False}),
    "state-space model": (mamba_model, {}),
    "prompt tuning": (prompt_tuned_model, {}),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_cannot_be_continued_with_fewer_rows_is_left_alone(name):
    make_model, fields = LEFT_ALONE[name]
    model = make_model()
    expected, all_rows = generate(model, is_dropping=False, **fields)
    tokens, num_rows = generate(model, is_dropping=True, **fields)
    assert torch.equal(tokens, expected)
    assert num_rows == all_rows
    assert len(set(num_rows)) == 1


def test_encoder_decoder_model_is_left_alone():
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(vocab_size=128, decoder_start_token_id=PAD, **shape)).eval()
    config = GenerationConfig(max_new_tokens=12, do_sample=True, pad_token_id=PAD, decoder_start_token_id=PAD)
    inputs = torch.randint(10, 100, (8, 5))
    outputs = []
    for context in (contextlib.nullcontext(), dropping_ended_rows(model, config)):
        torch.manual_seed(0)
        with context:
            outputs.append(model.generate(inputs, generation_config=config))
    assert torch.equal(*outputs)


def test_generate_is_put_back():
    model = tiny_model()
    with pytest.raises(KeyError), dropping_ended_rows(model, GenerationConfig(do_sample=True)):
        assert "generate" in vars(model)
        raise KeyError
    assert "generate" not in vars(model)


def rows_of_trainer(config: dict, is_sharded: bool = False) -> set[int]:
    """Numbers of rows with which the trainer's model is run while it generates."""
    fields = {"generation_kwargs": {"eos_token_id": list(range(40))}, "dynamic_sampling": False, "max_steps": 1}
    trainer = build(DAPOTrainer, fields | config, rollout_func=None)
    trainer.is_fsdp_enabled = is_sharded
    with counted_rows(trainer.model) as num_rows:
        trainer._generate(trainer.train_dataset["prompt"][:8])
    return set(num_rows)


def test_the_trainer_drops_rows():
    assert min(rows_of_trainer({})) < 8


OFF = {"compact_generation": False}
TRL_BATCHES = {"balance_micro_batches": False}


@pytest.mark.parametrize(("config", "is_sharded"), [(OFF, False), (TRL_BATCHES, False), ({}, True)])
def test_the_trainer_keeps_all_rows(config, is_sharded):
    assert rows_of_trainer(config, is_sharded) == {8}
