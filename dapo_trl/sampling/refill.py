"""How many prompts to draw next, the pool of informative groups being filled, and what a shortage means."""

import math
from collections import Counter
from dataclasses import dataclass, field

from ..run.early_end import EndOfRun
from .groups import Outcome, outcome_shares


MANY_TRUNCATED = 0.5
"""Share of completions that are cut off from which on their length is the likely cause of a shortage."""


SEVERAL_GROUPS = 7
"""More groups than these, some all right, some all wrong and none mixed, are hardly so by chance."""


class AcceptanceRate:
    """Share of drawn groups that were informative, in recent rounds: older rounds fade by `decay` per round."""

    def __init__(self, decay: float = 0.7):
        self.decay = decay
        self._accepted = 0.0
        self._drawn = 0.0

    def observe(self, num_accepted: int, num_drawn: int) -> None:
        """Counts one round."""
        self._accepted = self.decay * self._accepted + num_accepted
        self._drawn = self.decay * self._drawn + num_drawn

    def estimate(self) -> float:
        """Acceptance rate in (0, 1]; 1 before the first round. One imagined acceptance keeps it above zero."""
        return (self._accepted + 1) / (self._drawn + 1)

    def state_dict(self) -> dict[str, float]:
        """The two faded counts."""
        return {"accepted": self._accepted, "drawn": self._drawn}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores the two faded counts."""
        self._accepted, self._drawn = state["accepted"], state["drawn"]


def round_size(num_missing: int, acceptance: float, max_prompts: int, multiple_of: int = 1) -> int:
    r"""
    Prompts to draw so that the missing groups are probably found in one round.

    With acceptance rate p in (0, 1], n prompts yield np ± sqrt(np(1-p)) informative groups. The smallest n whose yield
    less one standard deviation reaches the m missing groups, at most `max_prompts`, rounded up to a multiple:

    $$ n = \left( \frac{s + \sqrt{s^2 + 4 m}}{2} \right)^2 / p, \quad s = \sqrt{1 - p} $$
    """
    deviation = math.sqrt(1 - acceptance)
    wanted = ((deviation + math.sqrt(deviation**2 + 4 * num_missing)) / 2) ** 2 / acceptance
    # The float may exceed a whole number by rounding alone.
    num_prompts = min(math.ceil(wanted - 1e-9), max_prompts)
    return math.ceil(num_prompts / multiple_of) * multiple_of


def equal_share_multiple(num_generations: int, num_processes: int) -> int:
    """Smallest number of prompts whose G completions each can be shared equally by R processes: R / gcd(R, G)."""
    return num_processes // math.gcd(num_processes, num_generations)


@dataclass
class GroupPool:
    """The `size` informative groups of a rollout, accepted in the order in which their prompts were drawn."""

    size: int
    accepted: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    num_rounds: int = 0

    @property
    def num_missing(self) -> int:
        """Groups still needed."""
        return self.size - len(self.accepted)

    @property
    def num_drawn(self) -> int:
        """Groups generated so far."""
        return len(self.outcomes)

    @property
    def num_surplus(self) -> int:
        """Informative groups beyond the size of the pool."""
        return self.outcomes.count(Outcome.INFORMATIVE) - len(self.accepted)

    def add_round(self, outcomes: list[Outcome]) -> None:
        """Takes the outcomes of one round's groups, in draw order; accepts informative ones while there is room."""
        first = self.num_drawn
        informative = [first + i for i, outcome in enumerate(outcomes) if outcome is Outcome.INFORMATIVE]
        self.accepted += informative[: self.num_missing]
        self.outcomes += outcomes
        self.num_rounds += 1

    def status(self, group: int) -> str:
        """Status of a group: `"kept"`, `"surplus"`, or the outcome for which it was dropped."""
        outcome = self.outcomes[group]
        if outcome is not Outcome.INFORMATIVE:
            return outcome.value
        return "kept" if group <= self.accepted[-1] else "surplus"

    def metrics(self, has_threshold: bool = True) -> dict[str, float]:
        """The rollout's `dynamic_sampling/*` counts and fractions, over all groups; see [`outcome_shares`]."""
        return {
            "rounds": self.num_rounds,
            **outcome_shares(self.outcomes, has_threshold),
            "num_surplus_groups": self.num_surplus,
            "generated_per_trained": self.num_drawn / max(1, len(self.accepted)),
        }


class ShortageError(EndOfRun):
    """A rollout could not be filled with informative groups."""


@dataclass(frozen=True)
class Hints:
    """What outcomes do not tell: the one value that all filter rewards have, if so, and how many are cut off."""

    constant: float | None = None
    frac_truncated: float = 0.0


def check_filled(
    pool: GroupPool,
    hints: Hints,
    *,
    is_partial_allowed: bool,
    min_groups: int,
    max_rounds: int,
    num_prompts: int,
) -> str:
    """A warning if a rollout is partial, "" if it is full; ShortageError if it cannot be trained on."""
    if pool.num_missing == 0:
        return ""
    message = shortage_message(pool, max_rounds, num_prompts, hints)
    if not is_partial_allowed:
        raise ShortageError(message)
    if len(pool.accepted) < min_groups:
        raise ShortageError(f"{message} At least {min_groups} are needed to give every optimizer step a row.")
    return f"{message} Training on these, because on_shortage='train_partial'."


def shortage_message(pool: GroupPool, max_rounds: int, num_prompts: int, hints: Hints = Hints()) -> str:
    """Counts by outcome, why no round can follow, and the remedy for the most frequent outcome."""
    counts = Counter(pool.outcomes)
    reason = (
        f"max_rounds={max_rounds} rounds are used up"
        if pool.num_rounds >= max_rounds
        else f"this rollout has drawn the whole data set ({num_prompts} prompts)"
    )
    dropped = [outcome for outcome in Outcome if outcome is not Outcome.INFORMATIVE and counts[outcome]]
    remedy = _remedy(max(dropped, key=lambda outcome: counts[outcome]), hints) if dropped else "Use a larger data set."
    is_mixed = counts[Outcome.ALL_CORRECT] and counts[Outcome.ALL_WRONG] and pool.num_drawn > SEVERAL_GROUPS
    if (is_mixed or counts[Outcome.ALL_EQUAL]) and not counts[Outcome.INFORMATIVE]:
        remedy = (
            "All completions of a prompt have the same filter reward, whatever the prompt: check that it depends on "
            "the completion, and that sampling is on (temperature)."
        )
    all_equal = f"{counts[Outcome.ALL_EQUAL]} all equal, " if counts[Outcome.ALL_EQUAL] else ""
    return (
        f"Only {len(pool.accepted)} of the {pool.size} informative groups of a rollout were found among "
        f"{pool.num_drawn} generated ({counts[Outcome.ALL_CORRECT]} all correct, {counts[Outcome.ALL_WRONG]} all "
        f"wrong, {all_equal}{counts[Outcome.UNSCORABLE]} unscorable), and {reason}. {remedy} Raising max_rounds or "
        "max_oversampling, or a smaller rollout, also helps."
    )


def _remedy(outcome: Outcome, hints: Hints) -> str:
    if outcome is Outcome.UNSCORABLE:
        return (
            "The filter reward returns None: check the data set's reference answers, and that "
            "dynamic_sampling_metric names a reward for every task."
        )
    constant = "" if hints.constant is None else f"Every completion was judged {hints.constant:g}. "
    if outcome is Outcome.ALL_WRONG and hints.frac_truncated > MANY_TRUNCATED:
        return (
            f"{constant}{hints.frac_truncated:.0%} of the completions are cut off before they reach an answer: raise "
            "max_completion_length."
        )
    if outcome is Outcome.ALL_WRONG:
        return (
            f"{constant}The prompts are too hard, or the reward cannot read the answers: check rewards on a few "
            "completions, use easier prompts, or raise num_generations."
        )
    if constant:
        return (
            f"{constant}Check that the reward depends on the completion at all, by calling it on a wrong answer. If "
            "it does, use harder prompts."
        )
    if outcome is Outcome.ALL_EQUAL:
        return "All completions of these prompts have the same filter reward: use a finer one, or other prompts."
    return "The prompts are too easy for the model: use harder ones."
