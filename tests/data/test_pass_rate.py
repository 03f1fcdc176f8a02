"""Pass rates, with scripted completions, a server in a thread, and a tiny Transformers model."""

import pyarrow.parquet as pq
import pytest

from dapo_trl.commands.prepare_data import main
from dapo_trl.data.prepare import within_pass_rate
from dapo_trl.data.prepare_config import PrepareConfig
from dapo_trl.data.records import Counts, Record
from tests.helpers import tiny_model
from tests.json_server import JSONHandler, running


def reward(completions, solution, **kwargs):
    return [
        None if gold == "?" else 1.0 if text == gold else -1.0
        for text, gold in zip(completions, solution, strict=True)
    ]


def record(prompt, solution="1"):
    return Record(id=prompt, prompt=prompt, solution=solution, problem=prompt, source="s")


def test_range_is_kept_and_the_rest_counted():
    texts = {"never": "0000", "once": "0100", "often": "1110", "always": "1111", "unknown": "1111"}

    def sampler(records):
        return [list(texts[item.id]) for item in records]

    records = [record(name, "?" if name == "unknown" else "1") for name in texts]
    counts = Counts()
    config = PrepareConfig("s", output="o", pass_rate_model="m", min_pass_rate=0.25, max_pass_rate=0.75)
    kept = within_pass_rate(records, sampler, reward, config, counts)
    assert [(item.id, item.pass_rate) for item in kept] == [("once", 0.25), ("often", 0.75)]
    assert (counts.num_too_hard, counts.num_too_easy, counts.num_unscorable) == (1, 1, 1)


@pytest.fixture
def server():
    """An OpenAI-compatible server that answers with `Answer: 1`."""

    class Handler(JSONHandler):
        def do_GET(self):
            self.answer(200, {"data": [{"id": "m"}]})

        def do_POST(self):
            body = self.read_json()
            self.server.requests.append((self.path, body))
            text = "Answer: 1"
            choice = {"message": {"content": text}} if "messages" in body else {"text": text}
            self.answer(200, {"choices": [{**choice, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}})

    with running(Handler, requests=[]) as started:
        yield started


@pytest.mark.parametrize("conversational", [False, True])
def test_command_with_a_server(server, write_jsonl, tmp_path, conversational):
    source = write_jsonl("rows.jsonl", {"problem": "Q1?", "answer": "1"}, {"problem": "Q2?", "answer": "2"})
    arguments = ["--pass_rate_model", "m", "--pass_rate_server", server.url, "--num_generations", "2"]
    arguments += ["--prompt_template", "plain", "--conversational", str(conversational), "--min_pass_rate", "0.5"]
    main(["--source", source, "--output", str(tmp_path / "out"), *arguments])
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert (row["problem"], row["pass_rate"]) == ("Q1?", 1.0)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Problems with a pass rate below the range, left out | 1 |" in card
    assert "pass_rate_model: m" in card
    assert "pass_rate_reward: accuracy (auto-" in card
    # A text is sent as it is, messages go through the server's chat template.
    path, body = server.requests[0]
    assert path == ("/v1/chat/completions" if conversational else "/v1/completions")
    assert body["temperature"] == 1.0 and body["top_p"] == 1.0 and body["max_tokens"] == 2048
    if not conversational:
        assert sorted(body["prompt"] for _, body in server.requests) == ["Q1?", "Q1?", "Q2?", "Q2?"]
    assert len({body["seed"] for _, body in server.requests}) == 4


@pytest.mark.parametrize("conversational", [False, True])
def test_command_with_a_transformers_model(tokenizer_path, write_jsonl, tmp_path, conversational):
    tiny_model(vocab_size=5, pad_token_id=1, eos_token_id=None).save_pretrained(tokenizer_path)
    source = write_jsonl("rows.jsonl", *({"problem": f"a {'1 ' * n}", "answer": "1"} for n in range(8)))
    arguments = ["--pass_rate_model", tokenizer_path, "--num_generations", "4", "--max_completion_length", "3"]
    arguments += ["--conversational", str(conversational), "--seed", "7"]
    outputs = []
    for name in ("one", "another"):
        main(["--source", source, "--output", str(tmp_path / name), *arguments])
        table = pq.read_table(tmp_path / name / "data" / "train-00000-of-00001.parquet")
        outputs.append(table.column("pass_rate").to_pylist())
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 8 and any(0 < rate < 1 for rate in outputs[0])
