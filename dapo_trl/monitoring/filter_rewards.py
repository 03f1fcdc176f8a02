"""The rewards that dynamic sampling filters on: what they say of each completion, and signs that they are broken."""

import torch
from accelerate.logging import get_logger

from ..checks.returned_rewards import RewardValueError
from ..config import DAPOConfig
from ..sampling.groups import Outcome, filter_values, group_outcomes, is_graded
from .metrics import constant_value


logger = get_logger(__name__)

MANY_UNSCORED = 0.1
"""Share of completions without a filter value from which on other functions are looked at."""


class FilterRewards:
    """
    Which completions are right, by the functions that `dynamic_sampling_metric` names: their `columns`, maybe none.
    """

    def __init__(
        self,
        args: DAPOConfig,
        columns: list[int],
        names: list[str],
        weights: torch.Tensor,
        overlong_column: int | None = None,
    ):
        self._args = args
        self.columns = columns
        self.names = names
        self._weights = weights
        self._overlong_column = overlong_column
        self._is_graded = False
        self.forget_warnings()

    def forget_warnings(self) -> None:
        """Warn again of what has been warned of once."""
        self._is_warned_of_unscored = self._is_warned_of_overlap = False

    @property
    def threshold(self) -> float | None:
        """A completion is correct if its value is above it; None if that is not known."""
        if self._args.correct_threshold is not None:
            return self._args.correct_threshold
        return None if self._is_graded else 0.0

    def values(self, rewards_per_func: torch.Tensor) -> torch.Tensor:
        """`(B,)`: see [`filter_values`]."""
        return filter_values(rewards_per_func, self.columns)

    def outcomes(self, rewards_per_func: torch.Tensor) -> list[Outcome]:
        """Outcomes of the groups of `(P * G, F)` rewards, see [`group_outcomes`]."""
        groups = self.values(rewards_per_func).view(-1, self._args.num_generations)
        return group_outcomes(groups, self.threshold)

    def notice_grades(self, rewards_per_func: torch.Tensor) -> None:
        """From the first graded values on, no accuracy is reported, unless it is said where right begins."""
        if self._is_graded or self._args.correct_threshold is not None:
            return
        left = torch.ones(len(rewards_per_func), dtype=torch.bool, device=rewards_per_func.device)
        for column in self.columns:
            decides = left & ~rewards_per_func[:, column].isnan()
            left &= ~decides
            values = rewards_per_func[decides, column]
            if is_graded(values):
                self._is_graded = True
                self._report_grades(self.names[column], values)
                return

    def _report_grades(self, name: str, values: torch.Tensor) -> None:
        some = ", ".join(f"{value:.6g}" for value in values.unique().tolist()[:4])
        message = (
            f"The filter reward {name!r} is graded ({some}, ...): it does not say what is correct. Set "
            "correct_threshold: completions whose filter reward is above it are correct (0.0, if all of them above "
            "zero are)."
        )
        best = self._args.metric_for_best_model
        if self._args.load_best_model_at_end and "avg@" in (best or ""):
            raise RewardValueError(
                f"metric_for_best_model={best!r} cannot be computed. {message} Or set metric_for_best_model to "
                "'eval_reward'."
            )
        logger.warning(
            f"{message} Until then frac_correct, avg@k and the other metrics of correctness are left out; "
            "training is the same."
        )

    def warn(self, rewards_per_func: torch.Tensor) -> None:
        """Of signs, in all rewards of a rollout, that a function is broken, or another one should filter as well."""
        if self.columns:
            self._warn_of_constants(rewards_per_func)
            self._warn_of_unscored(rewards_per_func)
            self._warn_of_overlap(rewards_per_func)

    def _warn_of_constants(self, rewards_per_func: torch.Tensor) -> None:
        for column in self.columns if self._args.dynamic_sampling else []:
            others = [other for other in self.columns if other != column]
            is_own_task = rewards_per_func[:, others].isnan().all(dim=1)
            value = constant_value(rewards_per_func[is_own_task], self._weights, column)
            if value is not None:
                logger.warning(
                    f"The filter reward {self.names[column]!r} is {value} for all completions of this rollout"
                    f"{' that it scores' if others else ''}, while the total reward is not constant: there is no "
                    "group to train on. Check that this reward reads the model's answers, and that "
                    "dynamic_sampling_metric names the right one."
                )

    def _warn_of_unscored(self, rewards_per_func: torch.Tensor) -> None:
        """Once: rows without a filter value that other functions score."""
        is_missing = self.values(rewards_per_func).isnan()
        share = is_missing.float().mean().item()
        if self._is_warned_of_unscored or share <= MANY_UNSCORED:
            return
        is_scored = (~rewards_per_func[is_missing].isnan()).any(dim=0).tolist()
        others = [
            name
            for column, name in enumerate(self.names)
            if is_scored[column] and column not in (*self.columns, self._overlong_column)
        ]
        if not others:
            return  # the alarm of unscorable groups says so
        self._is_warned_of_unscored = True
        names = [self.names[column] for column in self.columns]
        logger.warning(
            f"The filter rewards {names} return None for {share:.0%} of the completions of this rollout, which "
            f"makes their groups unscorable: with dynamic_sampling they are generated and dropped. {others} score "
            "them: if these say whether such a completion is right, let them decide as well (dynamic_sampling_metric: "
            f"[{', '.join([*names, *others])}])."
        )

    def _warn_of_overlap(self, rewards_per_func: torch.Tensor) -> None:
        """Once: rows that several filter rewards score, where the order of their names counts."""
        is_scored = ~rewards_per_func[:, self.columns].isnan()
        twice = is_scored.sum(dim=1) > 1
        if self._is_warned_of_overlap or not twice.any():
            return
        self._is_warned_of_overlap = True
        found = is_scored[twice][0].nonzero().flatten().tolist()
        first, *others = [self.names[self.columns[index]] for index in found]
        logger.warning(
            f"Several filter rewards score the same completion ({twice.float().mean().item():.0%} of this rollout): "
            f"{first!r} decides there, because dynamic_sampling_metric names it before {others}. Let each return None "
            "for the completions of other tasks, or name only the one that says whether a completion is right."
        )
