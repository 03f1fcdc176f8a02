"""
64 comparisons of which 4 hang for ever: done within one time-out plus two seconds, no process left.

    python benchmarks/rewards/hang.py [time-out in seconds]
"""

import os
import subprocess
import sys
import time

from dapo_trl.rewards.pool import VerifierPool


# Each keeps math-verify busy for longer than anyone waits.
HANGING = ("10^{10^{10}}", "9999999!", "7^{7^{7^{7}}}", "2^{3^{4^{5}}}")


def main(timeout: float) -> None:
    start = time.perf_counter()
    pool = VerifierPool()
    pool.check([(r"\sqrt{4}", "2")], timeout)
    print(f"start of {pool.num_workers} workers, and one answer: {time.perf_counter() - start:.1f} s; stopped again")
    pool.close()
    pairs = []
    for row in range(64):
        hangs = row % 16 == 3
        answer = HANGING[row // 16] if hangs else rf"\frac{{\sqrt{{{row * row}}}}}{{3}}"
        pairs.append((answer, rf"\frac{{{row}}}{{3}}" if row % 2 or hangs else rf"\frac{{{row + 1}}}{{3}}"))
    start = time.perf_counter()
    outcomes = pool.check(pairs, timeout)
    seconds = time.perf_counter() - start
    expected = ["timeout" if row % 16 == 3 else "True" if row % 2 else "False" for row in range(64)]
    found = ["timeout" if outcome.reason == "timeout" else str(outcome.is_correct) for outcome in outcomes]
    agreed = sum(one == other for one, other in zip(found, expected, strict=True))
    num_timeouts = found.count("timeout")
    print(f"{agreed} of 64 as expected, {num_timeouts} timed out, {seconds:.1f} s with a time-out of {timeout} s")
    pool.close()
    time.sleep(0.5)
    print(f"processes left: {num_descendants(os.getpid())}")


def num_descendants(pid: int) -> int:
    """Number of processes below `pid`, without the one that counts them."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    below = {str(pid)}
    for _ in rows:
        below |= {row[0] for row in rows if row[1] in below and row[2] != "ps"}
    return len(below) - 1


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
