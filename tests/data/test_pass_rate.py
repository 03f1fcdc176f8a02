"""The difficulty filter, with scripted completions, a server in a thread, and a tiny Transformers model."""

import pyarrow.parquet as pq
import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from dapo_trl.commands.prepare_data import main
from dapo_trl.data.counts import Counts
from dapo_trl.data.difficulty import within_pass_rate
from dapo_trl.data.generators import ServerGenerator, TransformersGenerator
from dapo_trl.data.records import Record
from dapo_trl.generation.openai_client import OpenAIServer
from tests.json_server import JSONHandler, running


def reward(completions, solution, **kwargs):
    return [
        None if gold == "?" else 1.0 if text == gold else -1.0
        for text, gold in zip(completions, solution, strict=True)
    ]


class Scripted:
    """Answers each prompt with the texts written for it."""

    def __init__(self, texts):
        self.texts = texts
        self.calls = []

    def generate(self, prompts, k):
        self.calls.append(list(prompts))
        return [self.texts[prompt][:k] for prompt in prompts]


def record(prompt, solution="1"):
    return Record(id=prompt, prompt=prompt, solution=solution, problem=prompt, source="s")


def test_range_is_kept_and_the_rest_counted():
    texts = {"never": "0000", "once": "0100", "often": "1110", "always": "1111", "unknown": "1111"}
    generator = Scripted({name: list(marks) for name, marks in texts.items()})
    records = [record(name, "?" if name == "unknown" else "1") for name in texts]
    counts = Counts()
    options = {"k": 4, "min_pass_rate": 0.25, "max_pass_rate": 0.75, "batch_size": 2}
    kept = list(within_pass_rate(records, generator, reward, counts, **options))
    assert [(item.id, item.pass_rate) for item in kept] == [("once", 0.25), ("often", 0.75)]
    assert (counts.num_too_hard, counts.num_too_easy, counts.num_unscorable) == (1, 1, 1)
    assert generator.calls == [["never", "once"], ["often", "always"], ["unknown"]]


@pytest.fixture
def server():
    """An OpenAI-compatible server that answers with `Answer: 1`, after failing as often as `failures` says."""

    class Handler(JSONHandler):
        def do_POST(self):
            body = self.read_json()
            self.server.requests.append((self.path, body))
            status = self.server.failures.pop() if self.server.failures else 200
            text = "Answer: 1"
            choice = {"message": {"content": text}} if "messages" in body else {"text": text}
            self.answer(status, {"choices": [choice] * body["n"]} if status == 200 else {"error": "busy"})

    with running(Handler, requests=[], failures=[]) as started:
        yield started


def test_server_gets_texts_and_messages_on_their_paths(server):
    generator = ServerGenerator(OpenAIServer(server.url + "/", "m", num_requests=1), max_completion_length=7)
    messages = [{"role": "user", "content": "Q?"}]
    assert generator.generate(["Q?", messages], 2) == [["Answer: 1"] * 2, ["Answer: 1"] * 2]
    common = {"model": "m", "n": 2, "max_tokens": 7, "temperature": 1.0, "top_p": 1.0, "seed": 42}
    assert server.requests == [
        ("/v1/completions", {**common, "prompt": "Q?"}),
        ("/v1/chat/completions", {**common, "messages": messages}),
    ]


def test_busy_server_is_asked_again(server):
    server.failures = [503, 429]
    generator = ServerGenerator(OpenAIServer(server.url, "m", retry_delay=0.01))
    assert generator.generate(["Q?"], 1) == [["Answer: 1"]]
    assert len(server.requests) == 3


def test_refused_request_is_not_repeated(server):
    server.failures = [400]
    with pytest.raises(ConnectionError, match=r"/v1/completions did not answer \(status 400: .*busy"):
        ServerGenerator(OpenAIServer(server.url, "m", retry_delay=0.01)).generate(["Q?"], 1)
    assert len(server.requests) == 1


def test_no_server_at_all():
    generator = ServerGenerator(OpenAIServer("http://127.0.0.1:9/v1", "m", num_retries=1, retry_delay=0.01))
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9/v1/completions did not answer .*serves model 'm'"):
        generator.generate(["Q?"], 1)


def test_command_with_a_server(server, write_jsonl, tmp_path):
    source = write_jsonl("rows.jsonl", {"problem": "Q1?", "answer": "1"}, {"problem": "Q2?", "answer": "2"})
    arguments = ["--pass_rate_model", "m", "--pass_rate_server", server.url, "--num_generations", "2"]
    main(["--source", source, "--output", str(tmp_path / "out"), *arguments, "--min_pass_rate", "0.5"])
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert (row["problem"], row["pass_rate"]) == ("Q1?", 1.0)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Problems with a pass rate below the range, left out | 1 |" in card
    assert "| `pass_rate_model` | `m` |" in card
    assert "| `pass_rate_reward` | `accuracy (auto-" in card


def test_transformers_model(tokenizer_path):
    config = Qwen2Config(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(tokenizer_path)
    outputs = []
    for _ in range(2):
        generator = TransformersGenerator(tokenizer_path, max_completion_length=3, seed=7)
        texts = generator.generate(["a a", "a"], 4)
        assert [len(group) for group in texts] == [4, 4]
        outputs.append(texts + generator.generate([[{"role": "user", "content": "a"}]], 2))
    assert outputs[0] == outputs[1]
    assert len({text for group in outputs[0] for text in group}) > 1
