"""Completions from an OpenAI-compatible server, with a small one in a thread."""

import threading

import pytest

from dapo_trl.data.records import Record
from dapo_trl.evaluation.backends import PromptEncoder, ServerBackend
from dapo_trl.evaluation.config import EvaluateConfig
from dapo_trl.evaluation.samples import Completion, make_requests
from tests.helpers import char_tokenizer
from tests.json_server import JSONHandler, running


class Handler(JSONHandler):
    """Says its seed; fails as often as `server.failures` says."""

    def do_GET(self):
        listed = {"data": [{"id": "m", "max_model_len": 64}]} if self.server.lists_models else None
        self.answer(200 if listed else 404, listed or {})

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
    with running(Handler, requests=[], failures=[], lists_models=True, lock=threading.Lock()) as started:
        yield started


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries at once, and no key of the machine's own."""
    monkeypatch.setattr("dapo_trl.generation.openai_client._MAX_DELAY", 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def backend(server, encoder: PromptEncoder | None = None, **fields) -> ServerBackend:
    fields = {"model": "m", "max_completion_length": 20, "top_p": 0.5} | fields
    config = EvaluateConfig(data="x", server_url=server.url, **fields)
    return ServerBackend(config, encoder or PromptEncoder(char_tokenizer()))


def requests(k: int = 2):
    return make_requests([Record("a", "1+1=", "2", "1+1=", "test")], k, seed=3)


def sample(backend: ServerBackend, requests: list) -> dict[int, Completion]:
    completions = {}
    backend.sample(requests, lambda request, completion: completions.__setitem__(request.seed, completion))
    return completions


def test_every_sample_is_a_request_with_its_own_seed(server):
    asked = requests(k=40)
    completions = sample(backend(server), asked)
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
    completions = sample(backend(server, **fields), requests(1))
    assert [completion.num_tokens for completion in completions.values()] == [5]
    ((path, body, key),) = server.requests
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "1+1="}]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "prompt" not in body and "top_k" not in body


@pytest.mark.parametrize("failures", [[503, 429], ["hang up"], [500, "hang up", 502]])
def test_failing_requests_are_repeated(server, failures):
    server.failures = list(failures)
    assert len(sample(backend(server), requests(6))) == 6
    assert len(server.requests) == 6 + len(failures)


def test_retries_are_bounded_and_what_is_done_is_saved(server):
    # The first of three requests gets through, the second never does.
    server.failures = [503, 503, 503, None]
    saved = {}
    with pytest.raises(
        ConnectionError, match=r"/v1/completions did not answer \(status 503: .*busy.* serves model 'm'"
    ):
        backend(server, server_retries=2, server_requests=1).sample(
            requests(3), lambda request, completion: saved.__setitem__(request.sample, completion)
        )
    assert list(saved) == [0]
    assert len(server.requests) == 4


def test_a_refused_request_is_not_repeated(server):
    server.failures = [400]
    with pytest.raises(ConnectionError, match="status 400"):
        sample(backend(server, server_requests=1), requests(1))
    assert len(server.requests) == 1


def test_an_answer_of_another_kind_of_server(server):
    server.failures = [200]
    with pytest.raises(ConnectionError, match="without choices or usage: {'error': 'busy'}. Check that server_url"):
        sample(backend(server), requests(1))


def test_no_server(server):
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9/v1/models did not answer \(ConnectError"):
        backend(server, server_retries=1)


def test_another_model_is_served(server):
    with pytest.raises(ValueError, match="model='other' is not served by .*, which serves: m. Give one of these"):
        backend(server, model="other")


def test_a_server_that_lists_no_models_is_asked_anyway(server, caplog):
    server.lists_models = False
    caplog.set_level("INFO")
    assert len(sample(backend(server), requests(1))) == 1
    assert "does not list its models; asking for 'm' anyway" in caplog.text


def test_completions_longer_than_the_server_allows(server):
    with pytest.raises(
        ValueError, match="max_completion_length=61 and the longest prompt, 4 tokens, exceed the server"
    ):
        sample(backend(server, max_completion_length=61), requests(1))
    assert len(sample(backend(server, max_completion_length=60), requests(1))) == 1


def test_a_prompt_longer_than_the_server_allows(server):
    long = make_requests([Record("a", "1" * 70, "2", "1" * 70, "test")], 1, seed=3)
    with pytest.raises(ValueError, match="The longest prompt alone has 70 tokens .* the server's max_model_len of 64"):
        sample(backend(server), long)
