"""Which prompts to generate for next: a seeded cursor over the data set that can be saved and restored."""

import zlib
from collections.abc import Sequence
from typing import Any

import torch


def prompts_fingerprint(prompts: Sequence[Any], num_samples: int = 64) -> int:
    """A checksum of some evenly spaced prompts: a sign that a resumed run reads the same data."""
    spacing = max(1, len(prompts) // num_samples)
    return zlib.crc32(repr([prompts[i] for i in range(0, len(prompts), spacing)]).encode())


class PromptStream:
    """
    Row indices of the next prompts: each prompt once per pass over the data set, in a seeded permutation per pass.

    Within a rollout no prompt is drawn twice: when it crosses the end of a pass, the prompts it has drawn go to the
    end of the new permutation. The sequence depends on the seed and the rollouts' boundaries only, so that any number
    of processes draws the same.
    """

    def __init__(self, num_prompts: int, seed: int, shuffle: bool = True, fingerprint: int = 0):
        if num_prompts <= 0:
            raise ValueError(f"num_prompts is {num_prompts}, but at least one prompt is needed to draw from.")
        self.num_prompts = num_prompts
        self.seed = seed
        self.shuffle = shuffle
        self.fingerprint = fingerprint
        self._pass = 0
        self._cursor = 0
        self._deferred: list[int] = []
        self._order: Sequence[int] = self._permutation()
        self._drawn_in_rollout: set[int] = set()

    @property
    def epoch(self) -> float:
        """Passes over the data set drawn so far."""
        return self._pass + self._cursor / self.num_prompts

    def begin_rollout(self) -> None:
        """From here on, prompts drawn before may come again."""
        self._drawn_in_rollout.clear()

    def draw(self, num_prompts: int, multiple_of: int = 1) -> list[int]:
        """
        The next prompts, a multiple of `multiple_of`; fewer or none when the rollout has drawn nearly all there are.
        """
        num_left = self.num_prompts - len(self._drawn_in_rollout)
        num_drawn = min(num_prompts, num_left) // multiple_of * multiple_of
        drawn = [self._next() for _ in range(num_drawn)]
        return drawn

    def _next(self) -> int:
        if self._cursor == self.num_prompts:
            self._pass += 1
            self._cursor = 0
            # A rollout never meets these again: it has drawn the whole data set before it reaches them.
            self._deferred = sorted(self._drawn_in_rollout)
            self._order = self._permutation()
        index = self._order[self._cursor]
        self._cursor += 1
        self._drawn_in_rollout.add(index)
        return index

    def _permutation(self) -> list[int]:
        order: Sequence[int] = range(self.num_prompts)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._pass)
            order = torch.randperm(self.num_prompts, generator=generator).tolist()
        deferred = set(self._deferred)
        return [index for index in order if index not in deferred] + [index for index in order if index in deferred]

    def state_dict(self) -> dict:
        """State from which the stream goes on exactly, between two rollouts."""
        return {
            "num_prompts": self.num_prompts,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "fingerprint": self.fingerprint,
            "pass": self._pass,
            "cursor": self._cursor,
            "deferred": list(self._deferred),
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on where `state` was taken; ValueError if it belongs to another data set, seed or order."""
        for name in ("num_prompts", "seed", "shuffle", "fingerprint"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"The checkpoint's prompt stream was written with {name}={state[name]}, but this run has "
                    f"{name}={getattr(self, name)}: the prompts would not go on where they stopped. Resume with the "
                    "same data set, seed and shuffle_dataset, or start a new run from the checkpoint's weights."
                )
        self._pass, self._cursor = state["pass"], state["cursor"]
        self._deferred = list(state["deferred"])
        self._order = self._permutation()
