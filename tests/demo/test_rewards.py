"""The reward by last number."""

import pytest

from demo.rewards import last_number, read_last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 7 = 12.", 12.0),
        ("It costs $1,234.50, no more", 1234.5),
        ("10, 20, 30,", 30.0),
        ("x = -3", -3.0),
        ("5-3", 3.0),
        ("none", None),
        ("", None),
    ],
)
def test_last_number(text, number):
    assert read_last_number(text) == number


def test_reward_reads_texts_and_messages():
    texts = ["so 72", "so 71", "so what", "1,000 in all"]
    golds = ["72", "72", "72", "1000"]
    assert last_number(texts, golds) == [1.0, -1.0, -1.0, 1.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert last_number(messages, golds, prompts=[]) == [1.0, -1.0, -1.0, 1.0]


def test_gold_without_a_number_is_unscorable():
    assert last_number(["5"], ["five"]) == [None]
