"""The samples of an evaluation: what is asked for, what comes back, and the file where completions are kept."""

import fcntl
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data.prompts import Messages
from ..data.records import Record
from ..data.tokens import prompt_ids
from ..run.secret_values import mask_values


logger = logging.getLogger(__name__)

_KEYS = {"problem", "sample", "completion", "num_tokens", "is_truncated"}


@dataclass(frozen=True)
class Request:
    """One sample of one problem."""

    problem: str  # its id
    sample: int  # from 0 to k - 1
    seed: int
    prompt: str | Messages  # before the chat template
    prompt_ids: list[int]  # its tokens; none without a tokenizer


@dataclass(frozen=True)
class Completion:
    """A sampled completion."""

    text: str  # without special tokens
    num_tokens: int  # with the one that ends it
    is_truncated: bool  # cut off at the longest allowed length


Save = Callable[[Request, Completion], None]


def make_requests(
    records: Sequence[Record],
    k: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> list[Request]:
    """
    `k` requests per problem, each with a seed of its own, so that a continued or larger evaluation draws the same.
    """
    requests = []
    for record in records:
        # One by one: beside texts there may be conversations of several turns.
        (ids,) = [[]] if tokenizer is None else prompt_ids([record.prompt], tokenizer, chat_template_kwargs)
        for sample in range(k):
            requests.append(Request(record.id, sample, sample_seed(seed, record.id, sample), record.prompt, ids))
    return requests


def sample_seed(seed: int, problem_id: str, sample: int) -> int:
    """A seed of 31 bits, which every backend accepts."""
    digest = hashlib.blake2b(f"{seed} {problem_id} {sample}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


class CompletionsFileError(ValueError):
    """A file of completions that cannot be continued."""


class CompletionsFile:
    """
    A file of completions in JSON lines, to be continued or begun, and written as they come; a CompletionsFileError on
    entering if it is damaged, holds other settings, or is in use.

    The first line holds the settings they were sampled with, without secrets, every other line a sample:
    `{"problem": id, "sample": 3, "seed": 17, "completion": "...", "num_tokens": 211, "is_truncated": false}`.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.settings = mask_values(settings)
        self.done: set[tuple[str, int]] = set()  # problem and number of the samples in the file

    def __enter__(self) -> "CompletionsFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
            self._drop_half_line()
            self._check_header()
            self.done = {(row["problem"], row["sample"]) for row in self.rows()}
        except BaseException as error:
            self._file.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise CompletionsFileError(
                f"{self.path} is being written by another evaluation with the same settings. Wait for it, or give "
                "another --output_dir."
            ) from error
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def add(self, request: Request, completion: Completion) -> None:
        row = {"problem": request.problem, "sample": request.sample, "seed": request.seed}
        row |= {"completion": completion.text, "num_tokens": completion.num_tokens}
        self._write(row | {"is_truncated": completion.is_truncated})
        self.done.add((request.problem, request.sample))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The samples in the file; a CompletionsFileError if a line is not a sample."""
        with open(self.path, "rb") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                row = _parse(line)
                if not row.keys() >= _KEYS:
                    raise CompletionsFileError(
                        f"{self.path}, line {number}, is not a sample. Remove the line to sample it again, or the "
                        "file to start from scratch."
                    )
                yield row

    def _drop_half_line(self) -> None:
        """Cuts off a last line without its end, as a killed process leaves it."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                logger.info("%s: the last line was half written; its sample is drawn again.", self.path)
                self._file.truncate(end)
            end += len(line)

    def _check_header(self) -> None:
        self._file.seek(0)
        line = self._file.readline()
        if not line:
            self._write({"settings": self.settings})
        elif _parse(line).get("settings") != self.settings:
            raise CompletionsFileError(
                f"{self.path} does not begin with the settings of this evaluation. Move the file away, or give "
                "another --output_dir."
            )

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()  # what was added survives a killed process


def _parse(line: bytes) -> dict[str, Any]:
    """The object in a line, an empty one if there is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
