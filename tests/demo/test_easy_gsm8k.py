"""Which GSM8K problems count as easy."""

import json
import sys

from demo.easy_gsm8k import is_easy, main


ONE = {"question": "What is 48/2?", "answer": "48/2 = <<48/2=24>>24\n#### 24"}
THREE = {"question": "What is it?", "answer": "<<1+1=2>>2 <<2+2=4>>4 <<4+4=8>>8\n#### 8"}
NONE = {"question": "What is it?", "answer": "It is 8.\n#### 8"}


def test_few_calculations_and_a_short_question():
    assert [is_easy(row) for row in (ONE, THREE, NONE)] == [True, False, False]
    assert is_easy(THREE, max_calculations=3)
    assert not is_easy({**ONE, "question": "x" * 151})


def test_command_keeps_lines_as_they_are(tmp_path, monkeypatch):
    source, target = tmp_path / "all.jsonl", tmp_path / "new" / "easy.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in (THREE, ONE, NONE)))
    monkeypatch.setattr(sys, "argv", ["easy_gsm8k", str(source), str(target)])
    main()
    assert target.read_text() == json.dumps(ONE) + "\n"
