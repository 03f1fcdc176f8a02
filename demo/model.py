"""The demo's model: a tiny decoder with random weights, and its tokenizer. Nothing is downloaded."""

import string

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer


END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"


def build_tokenizer() -> PreTrainedTokenizerBase:
    """
    A tokenizer of single characters, in which only the word `Answer` is a token of its own.

    It is a true `Qwen2Tokenizer`, because `AutoTokenizer` makes one of whatever lies beside a Qwen2 model: a generic
    fast tokenizer would come back from disk with other ids.
    """
    prefixes = ["A", "An", "Ans", "Answ", "Answe", "Answer"]
    merges = [(prefix, longer[-1]) for prefix, longer in zip(prefixes, prefixes[1:], strict=False)]
    # Byte-level BPE writes a space as "Ġ" and a newline as "Ċ".
    characters = [*string.ascii_letters, *string.digits, *string.punctuation, "Ġ", "Ċ"]
    tokens = [END_OF_TEXT, PADDING, *characters, *prefixes[1:]]
    return Qwen2Tokenizer(
        vocab={token: token_id for token_id, token in enumerate(tokens)},
        merges=merges,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        unk_token=END_OF_TEXT,
    )


def build_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 decoder of 0.87 M parameters in float32, which ends its texts with the tokenizer's end-of-text token."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)
