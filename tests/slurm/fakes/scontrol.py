"""`scontrol`: names of nodes, the state of the job, and requeueing it."""

import os
import sys

from .log import record


def run(arguments: list[str]) -> None:
    """Answers on standard output."""
    match arguments:
        case ["show", "hostnames", nodes]:
            sys.stdout.write(nodes.replace(",", "\n") + "\n")
        case ["show", "job", job]:
            state = os.environ.get("FAKE_JOB_STATE", "RUNNING")
            sys.stdout.write(f"JobId={job} JobName=dapo\n   JobState={state} Reason=None\n")
        case ["requeue", job]:
            record("requeue", job=job)
        case _:
            raise ValueError(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    run(sys.argv[1:])
