import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dapo_trl.rewards.outcome import Reason
from dapo_trl.rewards.pool import VerifierPool, default_num_workers


HANGS = "10^{10^{10}}"


@pytest.fixture(scope="module")
def pool():
    pool = VerifierPool(num_workers=3)
    yield pool
    pool.close()


def host_pid(pool):
    return pool._running and pool._running[0].pid


def processes_below(pid):
    """Ids of all processes that descend from `pid`."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    rows = [tuple(int(field) for field in line.split()) for line in table.splitlines()]
    below = {pid}
    for _ in rows:
        below |= {child for child, parent in rows if parent in below}
    return below - {pid}


def is_running(pid):
    """Whether the process exists and is no zombie."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(status) and not status.startswith("Z")


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_starts_lazily_and_a_hung_answer_costs_only_itself_and_close_leaves_no_process(pool):
    assert pool.check([], timeout=5.0) == []
    assert host_pid(pool) is None
    pairs = [(HANGS, "7"), ("\\sqrt{4}", "2"), ("9999999!", "7"), ("\\sqrt{9}", "2"), ("\\sqrt{16}", "4")]
    outcomes = pool.check(pairs, timeout=2.0)
    assert [outcome.is_correct for outcome in outcomes] == [False, True, False, False, True]
    assert [outcome.reason for outcome in outcomes].count(Reason.TIMEOUT) == 2
    below = processes_below(host_pid(pool)) | {host_pid(pool)}
    assert len(below) >= 4
    pool.close()
    assert host_pid(pool) is None
    assert wait_until(lambda: not any(is_running(pid) for pid in below))


def test_a_dead_host_is_an_error_and_then_replaced(pool):
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct
    killer = threading.Timer(0.5, os.kill, (host_pid(pool), signal.SIGKILL))
    killer.start()
    outcome = pool.check([(HANGS, "7")], timeout=10.0)[0]
    killer.join()
    assert outcome.is_correct is None
    assert outcome.reason is Reason.ERROR
    assert "exit code -9" in outcome.detail
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct


def test_after_an_interruption_no_question_gets_the_reply_to_another(pool):
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.check([(HANGS, "7")], timeout=1.0)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct


def test_workers_killed_while_idle_are_replaced(pool):
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct
    host = host_pid(pool)
    (fork_server,) = [pid for pid in processes_below(host) if len(processes_below(pid)) == pool.num_workers]
    for worker in processes_below(fork_server):
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct
    assert host_pid(pool) == host


def test_works_from_several_threads(pool):
    results = {}

    def check(number):
        results[number] = pool.check([(f"\\sqrt{{{number * number}}}", str(number))], timeout=10.0)[0].is_correct

    threads = [threading.Thread(target=check, args=(number,)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {2: True, 3: True, 4: True, 5: True}


def test_a_forked_child_starts_its_own_processes_whatever_the_parent_is_doing(pool):
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct
    host = host_pid(pool)
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def child():
        outcome = pool.check([("\\sqrt{9}", "3")], timeout=10.0)[0]
        sender.send((outcome.is_correct, host_pid(pool)))
        pool.close()

    busy = threading.Thread(target=pool.check, args=([(HANGS, "7")], 2.0))
    busy.start()
    time.sleep(0.3)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        assert receiver.poll(30), "the child waits for a lock that only the parent can release"
        is_correct, child_host = receiver.recv()
    finally:
        process.join(5)
        process.kill()
        busy.join()
    assert is_correct is True
    assert child_host != host
    assert host_pid(pool) == host
    assert pool.check([("\\sqrt{4}", "2")], timeout=10.0)[0].is_correct


def test_a_broken_installation_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = VerifierPool(num_workers=2).check([("\\sqrt{4}", "2")], timeout=5.0)[0]
    assert outcome.is_correct is None
    assert outcome.reason is Reason.ERROR
    assert "ImportError: broken" in outcome.detail


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_no_process_outlives_its_owner(end, tmp_path):
    # No `if __name__ == "__main__"`: the workers must not run the user's script again.
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom dapo_trl.rewards.pool import VerifierPool\npool = VerifierPool(2)\n"
        "print(pool.check([('\\\\sqrt{4}', '2')], 10.0)[0].is_correct, pool._running[0].pid, flush=True)\n" + end
    )
    output = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60).stdout
    (line,) = output.splitlines()
    is_correct, host = line.split()
    assert is_correct == "True"
    assert wait_until(lambda: not is_running(int(host)) and not processes_below(int(host)))


def test_neither_the_package_nor_a_worker_imports_torch():
    code = "import sys, dapo_trl.rewards, dapo_trl.rewards.worker; print('torch' in sys.modules, 'trl' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert output.stdout == "False False\n", output.stderr


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_num_workers() == 32
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_num_workers() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert default_num_workers() == 8
