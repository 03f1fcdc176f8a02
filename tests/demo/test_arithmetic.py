"""The task of the demo: right answers, worked texts, and the split."""

import json
import random

import pytest

from demo.arithmetic import Sum, is_right, split_sums, work_out, write_jsonl


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Sum(47, 25), "7+5=12\n4+2+1=7\nAnswer: 72"),
        (Sum(10, 10), "0+0=0\n1+1=2\nAnswer: 20"),
        (Sum(99, 99), "9+9=18\n9+9+1=19\nAnswer: 198"),
        (Sum(80, 35), "0+5=5\n8+3=11\nAnswer: 115"),
    ],
)
def test_known_texts(item, text):
    assert work_out(item, random.Random(0)) == text
    assert is_right(text, item.answer)


def test_every_text_without_slips_is_right():
    train, held_out = split_sums(seed=0)
    rng = random.Random(0)
    assert all(is_right(work_out(item, rng), str(item.first + item.second)) for item in train + held_out)


def test_slips_make_about_the_expected_share_wrong():
    rng = random.Random(0)
    right = [is_right(work_out(item, rng, slip_rate=0.3), item.answer) for item in split_sums(seed=0)[0]]
    # 0.7 ** 3 = 0.343, and a few slips write the right number by chance.
    assert sum(right) / len(right) == pytest.approx(0.36, abs=0.02)


@pytest.mark.parametrize("completion", ["72", "Answer: 27", "Answer: 72\n", "Answer: 72 or 73", "Answer: 172", ""])
def test_what_is_not_right(completion):
    assert not is_right(completion, "72")


def test_split_is_seeded_complete_and_disjoint():
    train, held_out = split_sums(seed=3)
    assert (train, held_out) == split_sums(seed=3)
    assert held_out != split_sums(seed=4)[1]
    assert len(held_out) == 512
    assert len(set(train) | set(held_out)) == len(train) + len(held_out) == 8100


def test_jsonl_columns(tmp_path):
    write_jsonl([Sum(47, 25), Sum(10, 11)], tmp_path / "sums.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "sums.jsonl").read_text().splitlines()]
    assert rows == [{"problem": "47+25=?", "answer": "72"}, {"problem": "10+11=?", "answer": "21"}]
