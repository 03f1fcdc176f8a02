"""
`sbatch` that waits: it runs the script as Slurm would, from a copy, and again if it was requeued.

With FAKE_TERM_WHEN, the name of a file, the script alone gets SIGTERM when that file first appears, as with
`--signal=B:TERM@...`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

from .log import directory, read


def run(arguments: list[str]) -> int:
    """Runs the job until it ends without being requeued; returns its status."""
    options = [word for word in arguments if word.startswith("--nodes=")]
    first = arguments.index(options[0]) + 1
    num_nodes = int(options[0].partition("=")[2])
    script = shutil.copy(arguments[first], directory() / "slurm_script")
    nodes = ",".join(f"127.0.0.{i + 1}" for i in range(num_nodes))
    environment = os.environ | {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": nodes}
    for restart in range(3):
        num_requeued = len(read(directory(), "requeue"))
        command = ["bash", script, *arguments[first + 1 :]]
        awaited = environment.get("FAKE_TERM_WHEN") if restart == 0 else None
        status = run_once(command, environment | {"SLURM_RESTART_COUNT": str(restart)}, awaited)
        if len(read(directory(), "requeue")) == num_requeued:
            return status
    raise RuntimeError("requeued for ever")


def run_once(command: list[str], environment: dict[str, str], awaited: str | None) -> int:
    """Runs the script once, and tells it of the end when the awaited file is there."""
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        if awaited and (directory() / awaited).exists():
            awaited = None
            process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    return process.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
