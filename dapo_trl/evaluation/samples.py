"""What a backend is asked for, and what it answers."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..data.prompts import Messages
from ..data.records import Record


@dataclass(frozen=True)
class Request:
    """
    One sample of one problem.

    Attributes:
        problem_id (`str`): the problem.
        sample (`int`): number of the sample, from 0 to k - 1.
        seed (`int`): its own, made from the evaluation's seed, the problem and the number of the sample.
        prompt (`str` or `list[dict]`): what the model sees, before the chat template.
    """

    problem_id: str
    sample: int
    seed: int
    prompt: str | Messages

    @property
    def key(self) -> tuple[str, int]:
        """Which sample this is."""
        return self.problem_id, self.sample


@dataclass(frozen=True)
class Completion:
    """
    A sampled completion.

    Attributes:
        text (`str`): without special tokens.
        num_tokens (`int`): length in tokens, with the one that ends it.
        is_truncated (`bool`): it was cut off at the longest allowed length.
    """

    text: str
    num_tokens: int
    is_truncated: bool


Save = Callable[[Request, Completion], None]


class Backend(Protocol):
    """Anything that samples completions."""

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        """Samples a completion for every request, in any order, and hands each over as soon as it is there."""


def make_requests(records: Sequence[Record], k: int, seed: int) -> list[Request]:
    """
    The requests of an evaluation.

    A sample's seed depends on nothing but the three things it is made from, so that a continued evaluation, or one
    with a larger k, draws what an uninterrupted one would have drawn.
    """
    return [
        Request(record.id, sample, sample_seed(seed, record.id, sample), record.prompt)
        for record in records
        for sample in range(k)
    ]


def sample_seed(seed: int, problem_id: str, sample: int) -> int:
    """A seed of 31 bits, which every backend accepts."""
    digest = hashlib.blake2b(f"{seed} {problem_id} {sample}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
