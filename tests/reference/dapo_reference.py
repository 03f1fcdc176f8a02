r"""
DAPO in plain PyTorch, written from the paper (https://huggingface.co/papers/2503.14476) for the tests.

Sequences go through the model one by one and without padding, there are no micro-batches, and nothing of TRL and
nothing of `dapo_trl.batching` is used. From `dapo_trl` comes only the order of the prompts (`PromptStream`), because
it is a free choice; so are the size of a round and the deal of rows to updates, which are programmed anew from their
documentation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from dapo_trl.sampling.prompts import PromptStream


@dataclass
class Settings:
    """Hyper-parameters under the paper's names; what the paper leaves open has the trainer's name."""

    num_prompts: int  # N, groups per rollout
    group_size: int  # G
    num_updates: int  # optimizer steps per pass over a rollout
    num_rollouts: int
    make_optimizer: Callable
    num_passes: int = 1
    eps_low: float = 0.2
    eps_high: float = 0.28
    dual_clip: float | None = None
    l_max: int = 16
    l_cache: int | None = None
    is_per_group: bool = False  # Eq. 8 read literally, instead of Eq. 12
    masks_truncated: bool = False
    max_rounds: int = 10
    max_oversampling: float = 3.0
    max_grad_norm: float = 1.0
    seed: int = 42


@dataclass
class Sample:
    """One completion o_i with what a gradient update needs."""

    prompt: list[int]
    completion: list[int]
    advantage: float
    group: int
    is_trained: torch.Tensor  # tokens that enter the loss
    old_logprobs: torch.Tensor


@dataclass
class Report:
    """What happened, so that a test can tell that it tested something."""

    num_high_clipped: int = 0
    num_low_clipped: int = 0
    num_dual_clipped: int = 0
    groups_kept: list[int] = field(default_factory=list)
    groups_drawn: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    num_masked: int = 0


class DAPOReference:
    """
    Algorithm 1.

    Args:
        model: the policy, trained in place.
        prompts (`list[list[int]]`): tokens of each prompt.
        generate (`Callable`): `(prompt index, position in the group, optimizer steps taken)` to a completion's tokens.
        env_mask (`Callable`): from the same to 1 for tokens of the model, 0 for tokens of an environment.
        is_correct (`Callable`): from a completion's tokens; stands for `is_equivalent(answer, gold)`.
        eos (`int`): a completion that does not end in it is truncated.
        settings (`Settings`): hyper-parameters.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        prompts: list[list[int]],
        generate: Callable[[int, int, int], list[int]],
        env_mask: Callable[[int, int, int], list[int]],
        is_correct: Callable[[list[int]], bool],
        eos: int,
        settings: Settings,
    ):
        self.model = model
        self.prompts = prompts
        self.generate = generate
        self.env_mask = env_mask
        self.is_correct = is_correct
        self.eos = eos
        self.settings = settings
        self.optimizer = settings.make_optimizer(model.parameters())
        self.stream = PromptStream(len(prompts), settings.seed)
        self.num_steps = 0
        self.faded_accepted, self.faded_drawn = 0.0, 0.0
        self.report = Report()

    def train(self) -> Report:
        """Algorithm 1, lines 1 to 11."""
        for rollout in range(self.settings.num_rollouts):
            samples = self.dynamic_batch()
            updates = self.deal(samples, rollout)
            for _ in range(self.settings.num_passes):
                for update in updates:
                    self.update(update, samples)
        return self.report

    def dynamic_batch(self) -> list[Sample]:
        """Lines 2 to 9: the buffer of groups with 0 < |correct| < G (Eq. 11), and their advantages."""
        s, buffer, num_drawn, num_rounds = self.settings, [], 0, 0
        self.stream.begin_rollout()
        while len(buffer) < s.num_prompts and num_rounds < s.max_rounds:
            indices = self.stream.draw(self.round_size(s.num_prompts - len(buffer)))
            num_accepted = 0
            for index in indices:
                group = [self.generate(index, position, self.num_steps) for position in range(s.group_size)]
                if 0 < sum(self.is_correct(completion) for completion in group) < s.group_size:
                    num_accepted += 1
                    buffer.append((index, group))
            self.faded_accepted = 0.7 * self.faded_accepted + num_accepted
            self.faded_drawn = 0.7 * self.faded_drawn + len(indices)
            num_drawn, num_rounds = num_drawn + len(indices), num_rounds + 1
        buffer = buffer[: s.num_prompts]
        self.report.groups_kept.append(len(buffer))
        self.report.groups_drawn.append(num_drawn)
        self.report.rounds.append(num_rounds)
        return [sample for number, (index, group) in enumerate(buffer) for sample in self.score(number, index, group)]

    def round_size(self, num_missing: int) -> int:
        """The fewest prompts whose expected yield, less one standard deviation, is what is missing."""
        acceptance = (self.faded_accepted + 1) / (self.faded_drawn + 1)
        bound = int(self.settings.max_oversampling * self.settings.num_prompts)
        num_prompts = num_missing
        while num_prompts < bound:
            expected = num_prompts * acceptance
            if expected - math.sqrt(expected * (1 - acceptance)) >= num_missing - 1e-9:
                break
            num_prompts += 1
        return min(num_prompts, bound)

    def score(self, number: int, index: int, group: list[list[int]]) -> list[Sample]:
        """Eq. 7, Eq. 13 and Eq. 9; the policy at this moment is the old policy."""
        correctness = [1.0 if self.is_correct(completion) else -1.0 for completion in group]
        penalties = [self.length_penalty(len(completion)) for completion in group]
        self.report.penalties += penalties
        rewards = torch.tensor([sum(pair) for pair in zip(correctness, penalties, strict=True)])
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        samples = []
        for position, (completion, advantage) in enumerate(zip(group, advantages.tolist(), strict=True)):
            is_masked = self.settings.masks_truncated and completion[-1] != self.eos
            self.report.num_masked += is_masked
            with torch.no_grad():
                old = self.logprobs(self.prompts[index], completion)
            is_trained = torch.tensor(self.env_mask(index, position, self.num_steps)) * (not is_masked)
            samples.append(Sample(self.prompts[index], completion, advantage, number, is_trained, old))
        return samples

    def length_penalty(self, length: int) -> float:
        """Eq. 13."""
        l_max, l_cache = self.settings.l_max, self.settings.l_cache
        if l_cache is None or length <= l_max - l_cache:
            return 0.0
        if length <= l_max:
            return ((l_max - l_cache) - length) / l_cache
        return -1.0

    def deal(self, samples: list[Sample], rollout: int) -> list[list[Sample]]:
        """A seeded permutation of the rows in draw order, cut into updates; the first ones get the odd rows."""
        generator = torch.Generator().manual_seed(self.settings.seed + 7919 * (rollout + 1))
        order = torch.randperm(len(samples), generator=generator).tolist()
        updates, start = [], 0
        for update in range(self.settings.num_updates):
            size = len(order) // self.settings.num_updates + (update < len(order) % self.settings.num_updates)
            updates.append([samples[row] for row in order[start : start + size]])
            start += size
        return updates

    def logprobs(self, prompt: list[int], completion: list[int]) -> torch.Tensor:
        """log pi(o_t | q, o_<t) for each token of the completion."""
        logits = self.model(torch.tensor([prompt + completion])).logits[0]
        predicted = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
        return predicted[torch.arange(len(completion)), torch.tensor(completion)]

    def update(self, update: list[Sample], rollout: list[Sample]) -> None:
        """One gradient step on Eq. 8 (its mean over the rollout's updates) or Eq. 12."""
        s = self.settings
        if s.is_per_group:
            group_tokens = [0] * (rollout[-1].group + 1)
            for sample in rollout:
                group_tokens[sample.group] += sample.is_trained.sum().item()
            groups_per_update = len(group_tokens) / s.num_updates
            scales = [1 / max(1, group_tokens[sample.group]) / groups_per_update for sample in update]
        else:
            num_tokens = max(1, sum(sample.is_trained.sum().item() for sample in update))
            scales = [1 / num_tokens for _ in update]
        self.optimizer.zero_grad()
        for sample, scale in zip(update, scales, strict=True):
            (-scale * self.objective(sample)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.max_grad_norm)
        self.optimizer.step()
        self.num_steps += 1

    def objective(self, sample: Sample) -> torch.Tensor:
        """The sum over t of min(r A, clip(r, 1 - eps_low, 1 + eps_high) A), for one completion."""
        s, report, advantage, is_trained = self.settings, self.report, sample.advantage, sample.is_trained
        ratio = torch.exp(self.logprobs(sample.prompt, sample.completion) - sample.old_logprobs)
        if advantage > 0:
            report.num_high_clipped += ((ratio > 1 + s.eps_high) * is_trained).sum().item()
            return (ratio.clamp(max=1 + s.eps_high) * advantage * is_trained).sum()
        report.num_low_clipped += ((ratio < 1 - s.eps_low) * is_trained).sum().item()
        ratio = ratio.clamp(min=1 - s.eps_low)
        if s.dual_clip is not None:
            report.num_dual_clipped += ((ratio > s.dual_clip) * is_trained).sum().item()
            ratio = ratio.clamp(max=s.dual_clip)
        return (ratio * advantage * is_trained).sum()
