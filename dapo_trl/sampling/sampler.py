"""Dynamic sampling: generate until a rollout is full of informative groups (DAPO Sec. 3.2, Algorithm 1, lines 2-8)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from datasets import Dataset
from tqdm.auto import tqdm

from ..config import DAPOConfig
from ..distributed.all_to_all import assert_agreement
from ..run.early_end import EndOfRun
from ..run.random_state import get_random_state, set_random_state
from .collection import Collection, GeneratedRow
from .groups import Outcome
from .prompts import PromptStream, prompts_fingerprint
from .refill import AcceptanceRate, GroupPool, Hints, check_filled, equal_share_multiple, round_size


logger = get_logger(__name__)


class DynamicSampler:
    """
    Draws prompts and keeps the informative groups of their completions, until there are enough for a rollout.

    Every process draws the same prompts and takes the same decisions, from rewards that are gathered.
    """

    def __init__(self, prompts: Dataset, args: DAPOConfig, accelerator: Accelerator):
        self.prompts = prompts
        self._args = args
        self._accelerator = accelerator
        self.stream = PromptStream(
            len(prompts), args.seed, args.shuffle_dataset, fingerprint=prompts_fingerprint(prompts["prompt"])
        )
        self.acceptance = AcceptanceRate()

    def collect(
        self,
        generate: Callable[[list[dict[str, Any]]], tuple[list[GeneratedRow], torch.Tensor, dict[str, float]]],
        judge: Callable[[torch.Tensor], list[Outcome]],
        inspect: Callable[[Collection], Hints],
        check: Callable[[], None],
    ) -> tuple[GroupPool, Collection]:
        """
        Generates in rounds until the rollout is full, or as full as `on_shortage` allows. If that is interrupted, the
        next call makes the very same one.

        Args:
            generate (`Callable`):
                One generation call for this process's rows of the data set: completions, all processes' rewards
                `(R * B, F)`, and the `completions/*` metrics.
            judge (`Callable`): outcomes of groups, from `(P * G, F)` rewards.
            inspect (`Callable`): looks at the whole rollout; tells what else is known if it cannot be filled.
            check (`Callable`): called after every round; raises [`~dapo_trl.run.early_end.EndOfRun`] to end the run.

        Raises:
            ShortageError: if the rollout cannot be filled, see [`check_filled`].
        """
        args = self._args
        before = self.state_dict(), get_random_state()
        pool = GroupPool(args.prompts_per_rollout)
        collection = Collection(args.num_generations, keeps_dropped=args.log_completions)
        self.stream.begin_rollout()
        is_quiet = args.disable_tqdm or not self._accelerator.is_main_process
        try:
            with tqdm(total=pool.size, desc="Informative groups", leave=False, disable=is_quiet) as progress:
                while indices := self._draw(pool):  # line 2
                    rewards = self._generate_round(indices, collection, generate)  # lines 4 and 5
                    outcomes = judge(rewards)
                    pool.add_round(outcomes)  # line 6
                    self.acceptance.observe(outcomes.count(Outcome.INFORMATIVE), len(outcomes))
                    collection.drop_rejected(pool)
                    check()
                    progress.update(len(pool.accepted) - progress.n)
                    progress.set_postfix(rounds=pool.num_rounds, generated=pool.num_drawn)
        except EndOfRun:
            self.load_state_dict(before[0])
            set_random_state(before[1])
            raise
        shortage = check_filled(
            pool,
            inspect(collection),
            is_partial_allowed=args.on_shortage == "train_partial",
            min_groups=-(-args.updates_per_rollout // args.num_generations),
            max_rounds=args.max_rounds,
            num_prompts=len(self.prompts),
        )
        if shortage:
            logger.warning(shortage)
        return pool, collection

    def _draw(self, pool: GroupPool) -> list[int]:
        """Prompts of the next round, as many as will probably fill the rollout; none when no round is to follow."""
        args, indices = self._args, []
        if pool.num_missing > 0 and pool.num_rounds < args.max_rounds:
            equal_share = equal_share_multiple(args.num_generations, self._accelerator.num_processes)
            num_prompts = round_size(
                pool.num_missing,
                acceptance=self.acceptance.estimate(),
                max_prompts=int(args.max_oversampling * pool.size),
                # A 64th of the rollout in any case: large and small numbers of processes draw the same rounds.
                multiple_of=math.lcm(equal_share, max(1, pool.size // 64)),
            )
            indices = self.stream.draw(num_prompts, multiple_of=equal_share)
        drawn = {"round": pool.num_rounds, "prompts": len(indices), "first_prompt": indices[0] if indices else -1}
        assert_agreement(drawn, self._accelerator)
        return indices

    def _generate_round(self, indices: list[int], collection: Collection, generate: Callable) -> torch.Tensor:
        """G completions of each prompt, and all processes' rewards of them, `(P * G, F)`."""
        # Transformers pads all rows of a call together, so that a larger call than TRL's own might not fit in memory.
        size = len(indices) if self._args.use_vllm else self._args.prompts_per_rollout
        rewards = []
        for start in range(0, len(indices), size):
            of_call = indices[start : start + size]
            num_rows = len(of_call) * self._args.num_generations // self._accelerator.num_processes
            first = self._accelerator.process_index * num_rows
            numbers = range(first, first + num_rows)
            inputs = [dict(self.prompts[of_call[number // self._args.num_generations]]) for number in numbers]
            rows, rewards_of_call, metrics = generate(inputs)
            collection.add_call(rows, self._accelerator.process_index, rewards_of_call, metrics)
            rewards.append(rewards_of_call)
        return torch.cat(rewards)

    def state_dict(self) -> dict[str, Any]:
        """How prompts are drawn from here on."""
        return {"prompt_stream": self.stream.state_dict(), "acceptance": self.acceptance.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.stream.load_state_dict(state["prompt_stream"])
        self.acceptance.load_state_dict(state["acceptance"])

    def skip(self, num_rollouts: int) -> None:
        """Passes over as many prompts as that many rollouts train on: for a checkpoint without this state."""
        for _ in range(num_rollouts):
            self.stream.begin_rollout()
            self.stream.draw(self._args.prompts_per_rollout)
