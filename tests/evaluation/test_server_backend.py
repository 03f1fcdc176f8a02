"""Completions from an OpenAI-compatible server, with a small one in a thread."""

import threading

import pytest

from dapo_trl.data.records import Record
from dapo_trl.evaluation.backends.server import sample_from_server
from dapo_trl.evaluation.completions import Completion, make_requests
from dapo_trl.evaluation.config import EvaluateConfig
from tests.helpers import char_tokenizer
from tests.json_server import JSONHandler, running


class Handler(JSONHandler):
    """Says its seed; fails as often as `server.failures` says."""

    def do_GET(self):
        self.answer(404, {})  # no vLLM that a run trains with

    def do_POST(self):
        body = self.read_json()
        with self.server.lock:
            self.server.requests.append((self.path, body, self.headers.get("Authorization")))
            failure = self.server.failures.pop() if self.server.failures else None
        if failure == "hang up":
            self.close_connection = True
        elif failure:
            self.answer(failure, {"error": "busy"})
        else:
            text = f"seed {body['seed']}"
            choice = {"text": text} if "prompt" in body else {"message": {"content": text}}
            choice["finish_reason"] = "length" if body["seed"] % 2 else "stop"
            self.answer(200, {"choices": [choice], "usage": {"completion_tokens": 5}})


@pytest.fixture
def server():
    with running(Handler, requests=[], failures=[], lock=threading.Lock()) as started:
        yield started


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries at once, and no key of the machine's own."""
    monkeypatch.setattr("dapo_trl.evaluation.backends.server._MAX_DELAY", 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def requests(k: int, prompt: str = "1+1=") -> list:
    return make_requests([Record("a", prompt, "2", prompt, "test")], k, 3, char_tokenizer())


def sample(server, requests: list, completions: dict | None = None, **fields) -> dict[int, Completion]:
    """Completions by seed; also in the dictionary that is given."""
    completions = {} if completions is None else completions
    fields = {"model": "m", "max_completion_length": 20, "top_p": 0.5} | fields
    config = EvaluateConfig(data="x", server_url=server.url, **fields)
    sample_from_server(config, requests, lambda request, sampled: completions.update({request.seed: sampled}))
    return completions


def test_every_sample_is_a_request_with_its_own_seed(server):
    asked = requests(k=40)
    completions = sample(server, asked)
    assert completions == {
        request.seed: Completion(f"seed {request.seed}", 5, bool(request.seed % 2)) for request in asked
    }
    path, body, key = server.requests[0]
    assert (path, key) == ("/v1/completions", None)
    assert {**body, "seed": None} == {
        "model": "m",
        "prompt": char_tokenizer()("1+1=")["input_ids"],
        "max_tokens": 20,
        "temperature": 1.0,
        "top_p": 0.5,
        "seed": None,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


def test_chat_sends_messages(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    fields = {"server_api": "chat", "server_extra": {}, "chat_template_kwargs": {"enable_thinking": False}}
    completions = sample(server, requests(1), **fields)
    assert [completion.num_tokens for completion in completions.values()] == [5]
    ((path, body, key),) = server.requests
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "1+1="}]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "prompt" not in body and "top_k" not in body


@pytest.mark.parametrize("failures", [[503, 429], ["hang up"], [500, "hang up", 502]])
def test_failing_requests_are_repeated(server, failures):
    server.failures = list(failures)
    assert len(sample(server, requests(6))) == 6
    assert len(server.requests) == 6 + len(failures)


def test_retries_are_bounded_and_what_is_done_is_saved(server):
    # The first of three requests gets through, the second never does.
    server.failures = [503, 503, 503, None]
    saved, asked = {}, requests(3)
    with pytest.raises(ConnectionError, match=r"/v1/completions did not answer \(status 503: .*busy.* model 'm'"):
        sample(server, asked, saved, server_retries=2, server_requests=1)
    assert list(saved) == [asked[0].seed]
    assert len(server.requests) == 4


def test_a_refused_request_is_not_repeated(server):
    server.failures = [400]
    with pytest.raises(ConnectionError, match="status 400"):
        sample(server, requests(1), server_requests=1)
    assert len(server.requests) == 1


def test_an_answer_of_another_kind_of_server(server):
    server.failures = [200]
    with pytest.raises(ConnectionError, match="without choices or usage: {'error': 'busy'}. Check that server_url"):
        sample(server, requests(1))


def test_no_server(server):
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9/v1/completions did not answer \(ConnectError"):
        sample(server, requests(1), server_retries=1)
