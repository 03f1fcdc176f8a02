"""What the fake commands leave behind for the tests."""

import json
import os
from pathlib import Path


def directory() -> Path:
    """Where the fakes of this test keep their files."""
    return Path(os.environ["FAKE_DIRECTORY"])


def record(what: str, **values) -> None:
    """One line for one event."""
    with open(directory() / "log.jsonl", "a") as log:
        log.write(json.dumps({"what": what} | values) + "\n")


def read(path: Path, what: str) -> list[dict]:
    """The events of a kind, in their order."""
    log = path / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [event for event in events if event["what"] == what]
