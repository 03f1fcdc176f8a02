"""avg@k of the evaluation data set, from the rewards of TRL's own evaluation."""

import math

import torch

from ..evaluation.statistics import average_at_k, estimate


class EvaluatedGroups:
    """
    Collects the deciding rewards of an evaluation, batch by batch.

    Args:
        num_generations (`int`): completions per problem, k.
    """

    def __init__(self, num_generations: int):
        self.num_generations = num_generations
        self._deciding: list[torch.Tensor] = []

    def add(self, deciding: torch.Tensor) -> None:
        """Takes the deciding rewards `(B,)` of one batch of all processes, the completions of a problem together."""
        self._deciding.append(deciding.float().cpu())

    def metrics(self, num_problems: int | None = None, threshold: float | None = 0.0) -> dict[str, float]:
        """
        avg@k with its 95% interval over problems (see [`~dapo_trl.evaluation.statistics.estimate`]).

        Args:
            num_problems (`int`, *optional*):
                Problems of the data set. Rows beyond are repetitions that gave all processes equally many.
            threshold (`float`, *optional*, defaults to `0.0`):
                Completions are correct above it; None if that is not known: there is no avg@k then.

        Returns:
            `dict[str, float]`: `avg@<k>`, and `avg@<k>_low` and `avg@<k>_high` unless there is a single
            problem. A problem with a completion that cannot be scored is left out and counted in `num_unscorable`.
            Empty if nothing was collected.
        """
        if not self._deciding:
            return {}
        groups = torch.cat(self._deciding).view(-1, self.num_generations)[:num_problems]
        is_scorable = ~groups.isnan().any(dim=1)
        metrics = {"num_unscorable": float((~is_scorable).sum())}
        if not is_scorable.any() or threshold is None:
            return metrics
        correct = (groups[is_scorable] > threshold).numpy()
        accuracy = estimate(average_at_k(correct))
        name = f"avg@{self.num_generations}"
        interval = {f"{name}_low": accuracy.low, f"{name}_high": accuracy.high}
        metrics[name] = accuracy.mean
        return metrics | {name: value for name, value in interval.items() if not math.isnan(value)}
