"""How many prompts and tokens a rollout is made of."""

from dataclasses import dataclass

from ..config import DAPOConfig
from ..sampling.refill import equal_share_multiple, round_size


@dataclass(frozen=True)
class Workload:
    """
    One rollout.

    Args:
        num_trained (`int`): completions that are trained on.
        num_generated (`int`): completions that are generated to find them.
        prompt (`int`): tokens of a usual prompt.
        completion (`int`): tokens of a usual completion.
        longest_prompt (`int`): tokens of the longest prompt.
        longest_completion (`int`): `max_completion_length`.
    """

    num_trained: int
    num_generated: int
    prompt: int
    completion: int
    longest_prompt: int
    longest_completion: int

    @property
    def row(self) -> int:
        """Tokens of a usual row."""
        return self.prompt + self.completion

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row."""
        return self.longest_prompt + self.longest_completion


def plan_workload(
    args: DAPOConfig, num_processes: int, acceptance: float, prompt: int, completion: int | None
) -> Workload:
    """
    The rollout of a recipe.

    Args:
        args (`DAPOConfig`): the recipe, built for R processes.
        num_processes (`int`): R.
        acceptance (`float`): share of informative groups; without dynamic sampling it does not matter.
        prompt (`int`): tokens of a usual prompt.
        completion (`int`, *optional*): tokens of a usual completion. None: a quarter of the longest.

    Raises:
        ValueError: if prompts have no room.
    """
    num_groups = args.prompts_per_rollout
    if args.dynamic_sampling:
        bound = int(args.max_oversampling * num_groups)
        first_round = round_size(
            num_groups, acceptance, bound, equal_share_multiple(args.num_generations, num_processes)
        )
        num_groups = max(first_round, min(round(num_groups / acceptance), args.max_rounds * bound))
    longest = args.max_completion_length
    has_limit = args.vllm_max_model_length is not None
    longest_prompt = args.vllm_max_model_length - longest if has_limit else max(512, prompt)
    if longest_prompt <= 0:
        raise ValueError(
            f"vllm_max_model_length={args.vllm_max_model_length} tokens leave no room for a prompt beside "
            f"max_completion_length={longest}. Raise the one by the tokens of the longest prompt, or lower the other."
        )
    return Workload(
        num_trained=args.generation_batch_size,
        num_generated=num_groups * args.num_generations,
        prompt=min(prompt, longest_prompt),
        completion=min(completion or max(1, longest // 4), longest),
        longest_prompt=longest_prompt,
        longest_completion=longest,
    )
