"""One request for every group of completions, each with a seed of its own."""

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


MAX_REQUESTS = 512  # under way at the same time: more would come near the usual limit of open files (1024)


def group_seed(*draw: str | int) -> int:
    """
    Seed of a group of completions, from what tells it from all others: 62 bits, since vLLM gives the i-th completion
    the seed plus i, and draws from nothing else. Without a seed, all engines of a server draw the same.
    """
    digest = hashlib.blake2b(" ".join(map(str, draw)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def generate_groups(
    generate: Callable[..., dict[str, Any]],
    seed_of: Callable[[int], int],
    *,
    prompts: list[list[int]],
    features: list[dict | None] | None = None,
    generation_kwargs: dict[str, Any] | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """
    What one request of TRL's `generate` for many prompts would give, from one request for each with a seed of its own:
    with one seed for all, equal prompts would get equal completions.
    """

    def ask(number: int) -> dict[str, Any]:
        one = slice(number, number + 1)
        return generate(
            prompts=prompts[one],
            features=features and features[one],
            generation_kwargs={**(generation_kwargs or {}), "seed": seed_of(number)},
            **sampling,
        )

    with ThreadPoolExecutor(min(MAX_REQUESTS, len(prompts))) as executor:
        answers = list(executor.map(ask, range(len(prompts))))
    joined: dict[str, list | None] = {}
    for name in answers[0]:
        parts = [answer[name] for answer in answers]
        joined[name] = None if parts[0] is None else list(itertools.chain.from_iterable(parts))
    return joined
