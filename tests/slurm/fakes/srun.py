"""`srun` on one machine: each node is a process; SIGTERM is passed on to all of them."""

import os
import signal
import subprocess
import sys
import time


def run(arguments: list[str]) -> int:
    """Runs the command once for each node; returns the largest status."""
    first = next(i for i, word in enumerate(arguments) if not word.startswith("--"))
    options = dict(word.removeprefix("--").partition("=")[::2] for word in arguments[:first])
    nodes = options["nodelist"].split(",")
    if len(nodes) != int(options["nodes"]) or options["ntasks"] != options["nodes"]:
        raise ValueError(f"inconsistent options: {options}")
    processes = [
        subprocess.Popen(arguments[first:], env=os.environ | {"SLURM_NODEID": str(i), "SLURMD_NODENAME": node})
        for i, node in enumerate(nodes)
    ]
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes])
    while any(process.poll() is None for process in processes):
        if options.get("kill-on-bad-exit") == "1" and any(process.poll() for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    return max(abs(process.returncode) for process in processes)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
