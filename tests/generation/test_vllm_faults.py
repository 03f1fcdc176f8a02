"""What the trainer does when its server fails, with a client that fails on command (a real one: tests/real_vllm)."""

from types import SimpleNamespace

import httpx
import pytest
from accelerate import Accelerator

from dapo_trl.generation.vllm import generation
from dapo_trl.generation.vllm.client import NOTHING_GENERATED, GuardedClient
from dapo_trl.generation.vllm.generation import Generation, ServerError
from dapo_trl.generation.vllm.preflight import ServerMismatchError, UnreachableError
from tests.recording_vllm import FakeClient, HeldClaim


class FailingClient(FakeClient):
    """Raises the given errors in turn, then works."""

    def __init__(self, *errors: Exception):
        super().__init__()
        self.errors, self.claim = list(errors), HeldClaim()

    def _do(self, what: str) -> None:
        self.calls.append(what)
        if self.errors:
            raise self.errors.pop(0)

    def generate(self, **kwargs):
        self._do("generate")
        return {"completion_ids": [[1]]}

    def update_named_params(self, metadata, named_params):
        self._do("send")


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Seconds of the pauses, which do not take place."""
    found = []
    monkeypatch.setattr(generation.time, "sleep", found.append)
    return found


def generation_with(client: FailingClient, num_retries: int = 3, mismatch: Exception | None = None) -> Generation:
    made = object.__new__(Generation)
    made.accelerator = Accelerator(cpu=True)
    made._args = SimpleNamespace(vllm_max_retries=num_retries)
    made.vllm_client = GuardedClient(client, 1.0, client.claim)
    made._find_mismatch = lambda: mismatch or client.claim.take()
    made._sync_and_mark = lambda: (
        made.vllm_client.update_named_params([], iter([])),
        made.vllm_client.mark_weights(),
    )
    made._sync_and_mark()
    client.calls.clear()
    return made


def generate(made: Generation) -> dict:
    return made._repeated(made.vllm_client.generate)


def failing(*errors: Exception, **arguments) -> tuple[Generation, FailingClient]:
    client = FailingClient()
    made = generation_with(client, **arguments)
    client.errors = list(errors)
    return made, client


def test_no_fault(pauses):
    made, client = failing()
    assert generate(made) == {"completion_ids": [[1]]}
    assert (client.calls, pauses) == (["generate"], [])


def test_a_fault_is_followed_by_weights_and_a_further_attempt(pauses):
    made, client = failing(httpx.ConnectError("gone"))
    assert generate(made) == {"completion_ids": [[1]]}
    assert client.calls == ["generate", "send", "generate"]  # the same server as before: no new connection
    assert pauses == [2]


def test_a_restarted_server_is_connected_to_again(pauses):
    """It then bears a mark of this run, but holds no weights of it."""
    made, client = failing(httpx.ConnectError("gone"))
    client.claim.mark = "default"
    assert generate(made) == {"completion_ids": [[1]]}
    assert client.calls == ["generate", "close", "connect", "send", "generate"]


def test_pauses_grow_and_end(pauses):
    made, client = failing(*[Exception("Request failed: 500")] * 100, num_retries=3)
    with pytest.raises(ServerError, match=r"Request failed: 500.* last of 4 attempts.* resume"):
        generate(made)
    assert pauses == [2, 4, 8]


def test_no_retries(pauses):
    made, client = failing(httpx.ReadTimeout("hung"), num_retries=0)
    with pytest.raises(ServerError, match="hung"):
        generate(made)
    assert (client.calls, pauses) == (["generate"], [])


def test_a_fault_while_recovering_is_one_more_fault(pauses):
    made, client = failing(httpx.ConnectError("gone"), httpx.ConnectError("gone again"))
    assert generate(made) == {"completion_ids": [[1]]}
    assert client.calls == ["generate", "send", "send", "generate"]
    assert pauses == [2, 4]


@pytest.mark.parametrize("mismatch", [UnreachableError("not up"), ServerMismatchError("another model")])
def test_no_server_or_another_one_comes_back(pauses, mismatch):
    made, _ = failing(httpx.ConnectError("gone"), mismatch=mismatch)
    with pytest.raises(ServerError, match=rf"{mismatch} .*resume"):
        generate(made)


def test_an_answer_with_other_weights_does_not_count(pauses):
    made, client = failing()
    answer = client.generate

    def restart_and_answer(**kwargs):
        client.claim.mark, client.generate = "default", answer
        return answer()

    client.generate = restart_and_answer
    assert generate(made) == {"completion_ids": [[1]]}
    assert client.calls == ["generate", "close", "connect", "send", "generate"]


def test_errors_that_are_not_the_servers_are_not_swallowed(pauses):
    made, _ = failing(TypeError("a mistake in the code"))
    with pytest.raises(TypeError, match="a mistake in the code"):
        generate(made)


def test_after_a_fault_nothing_is_called_but_all_weights_are_walked():
    """Other processes gather the weights with this one, whether they are sent or not."""
    client = FailingClient(httpx.ConnectError("gone"))
    guarded = GuardedClient(client, 1.0, client.claim)
    walked = []
    guarded.update_named_params([], (walked.append(i) for i in range(3)))
    assert walked == [0, 1, 2]
    assert guarded.generate() == NOTHING_GENERATED
    assert client.calls == ["send"]
    assert "gone" in guarded.take_fault()
    assert guarded.take_fault() is None
    assert guarded.generate() == {"completion_ids": [[1]]}
