"""One run per server: the second is refused by name, and a run that is gone does not stand in the way."""

import time
from collections.abc import Iterator
from time import sleep

import httpx
import pytest

from dapo_trl.generation.vllm import claim
from dapo_trl.generation.vllm.claim import Claim, ServerInUseError, check_unused
from dapo_trl.generation.vllm.preflight import UnreachableError
from tests.json_server import JSONHandler, running


class WeightHandler(JSONHandler):
    """vLLM's two endpoints for the text beside its weights, and what a test lets happen when it is read."""

    def do_GET(self):
        if self.server.before_reading:
            self.server.before_reading.pop(0)()
        known = self.path == "/weight_info" and self.server.mark is not None
        self.answer(200 if known else 404, {"weight_version": self.server.mark})

    def do_POST(self):
        assert self.path == "/update_weight_version"
        mark = self.read_json()["new_version"]
        self.server.mark = mark
        self.server.marks.append(mark)
        self.answer(200, {"success": True})


@pytest.fixture
def server() -> Iterator:
    with running(WeightHandler, mark="default", marks=[], before_reading=[]) as server:
        server.url = server.url.removesuffix("/v1")
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> list[float]:
    """Renewals every hundredth of a second; other pauses are noted, and as short."""
    pauses = []
    monkeypatch.setattr(claim, "RENEWAL_SECONDS", 0.01)
    monkeypatch.setattr(claim.time, "sleep", lambda seconds: (pauses.append(seconds), sleep(0.01)))
    return pauses


def claim_of(run: str, server, monkeypatch) -> Claim:
    """A claim of another process, as far as it can tell."""
    monkeypatch.setattr(claim, "RUN", run)
    return Claim(server.url)


def eventually(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        sleep(0.01)
    return condition()


def test_a_free_server_is_marked_and_the_mark_renewed(server, short_pauses):
    held = Claim(server.url)
    held.take()
    assert short_pauses == []
    assert eventually(lambda: len(server.marks) > 3)
    assert all(mark.startswith(f"dapo-{claim.RUN}-") for mark in server.marks) and held.is_on_server()
    assert len(set(server.marks)) == len(server.marks)
    held.release()


def renewing(mark: str, server) -> list:
    """What another run does while its mark is read for the second time."""
    return [lambda: None, lambda: setattr(server, "mark", mark)]


def test_a_server_in_use_is_refused(server, caplog):
    server.mark = "dapo-node/7/aa-weights-1"
    server.before_reading = renewing("dapo-node/7/aa-weights-2", server)
    with pytest.raises(ServerInUseError, match=r"used by another run.*dapo-node/7/aa-weights-2.*vllm_server_base_url"):
        Claim(server.url).take()
    assert server.marks == []
    assert "bears the mark of another run, 'dapo-node/7/aa-weights-1'" in caplog.text


def test_a_mark_left_behind_is_watched_and_replaced(server, short_pauses):
    server.mark = "dapo-node/7/aa-weights-1"
    taken = Claim(server.url)
    taken.take()
    assert taken.is_on_server()
    assert short_pauses == [1] * claim.WATCHED_SECONDS
    taken.release()


@pytest.mark.parametrize("found", ["dapo-node/7/aa-weights-free", "default", "step 12"])
def test_what_no_run_holds_is_taken_at_once(server, short_pauses, found):
    server.mark = found
    taken = Claim(server.url)
    taken.take()
    assert short_pauses == [] and taken.is_on_server()
    taken.release()


@pytest.mark.parametrize("found", ["dapo-node/7/aa-weights-free", "default"])
def test_a_run_that_ends_while_it_is_watched(server, found):
    server.mark = "dapo-node/7/aa-weights-1"
    server.before_reading = renewing(found, server)
    taken = Claim(server.url)
    taken.take()
    assert taken.is_on_server()
    taken.release()


def test_released_for_the_next_run_and_taken_again_to_send(server, short_pauses, monkeypatch):
    first = claim_of("node/1/aa", server, monkeypatch)
    first.take()
    first.release()
    assert server.mark.endswith("-free") and first.is_on_server() and not first.is_taken
    number = len(server.marks)
    sleep(0.1)
    assert len(server.marks) == number  # no longer renewed
    first.hold()
    assert first.is_taken and eventually(lambda: len(server.marks) > number)
    first.release()
    second = claim_of("node/2/bb", server, monkeypatch)
    second.take()
    assert 1 not in short_pauses  # nothing was watched
    second.release()


def test_a_mark_that_is_not_ours_any_more_is_left_alone(server):
    """As after a restart: the weights are not those that the mark would speak of."""
    held = Claim(server.url)
    held.take()
    server.mark = "default"
    sleep(0.1)
    assert server.mark == "default"
    held.take()
    number = len(server.marks)
    assert held.is_on_server() and eventually(lambda: len(server.marks) > number)
    held.release()


def test_the_latest_trainer_of_a_process_has_the_server(server, short_pauses):
    first, second = Claim(server.url), Claim(server.url)
    first.take()
    second.take()
    assert 1 not in short_pauses
    assert not first.is_on_server() and second.is_on_server()
    first.release()
    assert second.is_on_server() and not server.mark.endswith("-free")
    second.release()


def test_renewal_survives_a_server_that_does_not_answer(server):
    held = Claim(server.url)
    held.take()

    def fail():
        raise OSError

    server.before_reading = [fail] * 3
    number = len(server.marks)
    assert eventually(lambda: len(server.marks) > number and not server.before_reading)
    held.release()


def test_weights_are_marked_only_when_the_server_has_the_mark(server, monkeypatch):
    held = Claim(server.url)
    held.take()
    before = server.mark.rpartition("-")[0]

    def fail(mark: str) -> None:
        raise httpx.ConnectError("gone")

    with monkeypatch.context() as patches, pytest.raises(httpx.ConnectError):
        patches.setattr(held, "_write", fail)
        held.mark_weights()
    assert server.mark.rpartition("-")[0] == before and held.is_on_server() and not held.has_weights
    held.mark_weights()
    assert server.mark.rpartition("-")[0] != before and held.is_on_server() and held.has_weights
    held.release()


def test_an_engine_that_does_not_answer(server, monkeypatch):
    """As while it takes another run's weights: `/weight_info` waits for their end."""
    monkeypatch.setattr(claim, "PROBE_TIMEOUT", 0.05)
    server.before_reading = [lambda: sleep(0.5)]
    with pytest.raises(UnreachableError, match=r"engine .* does not answer.*takes the weights of another run"):
        Claim(server.url).take()


def test_who_only_asks_is_refused_too_but_leaves_no_mark(server):
    """A request under way when weights arrive ends the engine, whoever sent it."""
    for mark in ("default", "dapo-node/7/aa-weights-free", None):
        server.mark = mark
        check_unused(server.url)
    server.mark = "dapo-node/7/aa-weights-1"
    check_unused(server.url)  # left behind
    server.before_reading = renewing("dapo-node/7/aa-weights-2", server)
    with pytest.raises(ServerInUseError, match="used by another run"):
        check_unused(server.url)
    assert server.marks == []
    check_unused("http://127.0.0.1:9")


def test_a_version_without_marks(server):
    server.mark = None
    held = Claim(server.url)
    held.take()
    assert not held.is_taken and server.marks == []
