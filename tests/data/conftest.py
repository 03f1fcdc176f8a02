import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@pytest.fixture
def write_jsonl(tmp_path):
    """Writes rows to a JSON-lines file in the test's directory; returns its path as text."""

    def write(name: str, *rows: dict) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    """A tokenizer that counts words, with a chat template that adds two: one before and one after the messages."""
    words = {"[UNK]": 0, "[PAD]": 1, "a": 2, "Answer:": 3, "1": 4}
    model = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.chat_template = "a {% for m in messages %}{{ m.content }} {% endfor %}a"
    path = str(tmp_path_factory.mktemp("tokenizer"))
    tokenizer.save_pretrained(path)
    return path
