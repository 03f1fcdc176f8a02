"""One request for every group of completions, each with a seed of its own."""

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


MAX_REQUESTS = 512
"""Requests under way at the same time: more would come near the usual limit of open files (1024)."""


def group_seed(*draw: str | int) -> int:
    """
    Seed of a group of completions: 62 bits, which leaves room for the number of the completion.

    vLLM gives the i-th of a request's completions the seed plus i, and draws its random numbers from nothing else.
    Without a seed they come from the engine, and all engines of a server start with the same: two of them answer the
    same prompt alike.

    Args:
        *draw (`str` or `int`): what tells the group from all others of the run, and from those of other runs.
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
    What one request for many prompts would give, from one request for each: a request has one seed, with which equal
    prompts would get equal completions.

    Args:
        generate (`Callable`): TRL's [`~trl.generation.vllm_client.VLLMClient.generate`], whose other arguments follow.
        seed_of (`Callable[[int], int]`): takes the number of a prompt and returns its seed.
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
