"""Tiny saved models that the server and the trainer both load."""

from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tests.helpers import EOS, VOCABULARY, char_tokenizer


def save_tiny(path: Path, is_tied: bool, vocab_size: int = len(VOCABULARY), seed: int = 0, **config: Any) -> str:
    """
    A Llama of 60 thousand parameters with [`char_tokenizer`].

    A Llama, because `AutoTokenizer` reads the tokenizer of a Qwen2 model as a `Qwen2Tokenizer`, with other token ids;
    heads of 32 numbers, because vLLM has no smaller ones.
    """
    set_seed(seed)
    settings = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        pad_token_id=VOCABULARY["<pad>"],
        bos_token_id=None,
        eos_token_id=EOS,
        tie_word_embeddings=is_tied,
        initializer_range=0.1,
        **config,
    )
    LlamaForCausalLM(settings).save_pretrained(path)
    char_tokenizer().save_pretrained(path)
    return str(path)
