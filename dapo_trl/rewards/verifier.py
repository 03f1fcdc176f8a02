"""Is the final answer of a completion equivalent to the gold? (`is_equivalent` of DAPO Eq. 7.)"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from .answers import clean_answer, find_auto, get_answer_rule
from .canonical import is_readable
from .equivalence import compare
from .outcome import Outcome, Reason
from .pool import VerifierPool, shared_pool


class Verifier:
    """
    Finds and compares final answers: cheap rules first, then math-verify in processes that can be killed.

    Args:
        answer_rule (`str`, *optional*, defaults to `"auto"`):
            Name of the rule that finds the answer: `"auto"`, `"boxed"` or `"math_dapo"`.
        timeout (`float`, *optional*, defaults to `5.0`):
            Seconds that math-verify may spend on one answer; then its process is killed and the answer is wrong.
        cache_size (`int`, *optional*, defaults to `50_000`):
            Number of `(answer, gold)` pairs whose math-verify verdict is remembered.
        pool ([`VerifierPool`], *optional*):
            Processes to use instead of the shared ones.

    Raises:
        ValueError: if `answer_rule` is unknown, or `timeout` is not positive.

    Example:
    ```python
    >>> outcome = Verifier()(["So the angle is\nAnswer: 540 degrees"], ["540"])[0]
    >>> outcome.is_correct, outcome.reason.value, outcome.answer
    (True, 'rule', '540 degrees')
    ```
    """

    def __init__(
        self,
        answer_rule: str = "auto",
        timeout: float = 5.0,
        cache_size: int = 50_000,
        pool: VerifierPool | None = None,
    ):
        if not timeout > 0:
            raise ValueError(f"`timeout` is {timeout}, but it must be a positive number of seconds.")
        self.rule = get_answer_rule(answer_rule)
        self.timeout = timeout
        self.cache_size = cache_size
        self._pool = pool
        self._cache: OrderedDict[tuple[str, str], Outcome] = OrderedDict()

    def __call__(self, completions: Sequence[str | None], golds: Sequence) -> list[Outcome]:
        """
        Verify completions.

        Args:
            completions (`list[str]` of length B): texts; `None` is an empty one.
            golds (`list[str]` of length B): reference answers; numbers are accepted.

        Returns:
            `list[Outcome]` of length B.

        Raises:
            ValueError: if the two lists differ in length.
        """
        outcomes: list[Outcome | None] = []
        open_pairs: dict[int, tuple[str, str]] = {}
        for row, (completion, gold) in enumerate(zip(completions, golds, strict=True)):
            outcome, pair = self._decide(completion, gold)
            outcomes.append(outcome)
            if outcome is None:
                open_pairs[row] = pair
        verdicts = self._verify(list(dict.fromkeys(open_pairs.values())))
        for row, pair in open_pairs.items():
            outcomes[row] = replace(verdicts[pair], answer=pair[0])
        return outcomes

    def are_equal(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """
        Do two found answers state the same? They are compared as an answer is with a gold.

        Args:
            pairs (`list[tuple[str, str]]` of length B): answers as [`Outcome.answer`] holds them.

        Returns:
            `list[bool]` of length B. What math-verify cannot decide counts as different.
        """
        equals = self.rule.equals or compare
        verdicts = {pair: equals(*pair) for pair in set(pairs)}
        undecided = [pair for pair, is_equal in verdicts.items() if is_equal is None]
        verdicts |= {pair: bool(outcome.is_correct) for pair, outcome in self._verify(undecided).items()}
        return [verdicts[pair] for pair in pairs]

    def _decide(self, completion: str | None, gold) -> tuple[Outcome | None, tuple[str, str]]:
        """The outcome, if that takes no math-verify, and what to verify otherwise."""
        answer = self.rule.find(completion or "")
        clean_gold = read_gold(gold)
        if clean_gold is None:
            return Outcome(None, Reason.GOLD_UNREADABLE, answer), ("", "")
        if answer is None:
            return Outcome(False, Reason.NO_ANSWER), ("", clean_gold)
        if self.rule.equals is not None:
            return Outcome(self.rule.equals(answer, str(gold)), Reason.RULE, answer), (answer, clean_gold)
        is_correct = compare(answer, clean_gold)
        return None if is_correct is None else Outcome(is_correct, Reason.RULE, answer), (answer, clean_gold)

    def _verify(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Outcome]:
        """Verdicts of distinct pairs, from the cache or from math-verify. Errors are not remembered."""
        verdicts = {pair: self._cache[pair] for pair in pairs if pair in self._cache}
        new_pairs = [pair for pair in pairs if pair not in verdicts]
        new_outcomes = (self._pool or shared_pool()).check(new_pairs, self.timeout) if new_pairs else []
        verdicts |= dict(zip(new_pairs, new_outcomes, strict=True))
        for pair, outcome in verdicts.items():
            if outcome.reason is not Reason.ERROR:
                self._cache[pair] = outcome
                self._cache.move_to_end(pair)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return verdicts

    def __getstate__(self) -> dict:
        return {**self.__dict__, "rule": self.rule.name, "_pool": None, "_cache": OrderedDict()}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, rule=get_answer_rule(state["rule"]))


def read_gold(gold) -> str | None:
    r"""
    The reference answer within a gold column's value.

    A whole worked solution is accepted: what counts is then the answer that it states.

    Returns:
        `str` or `None`: `None` if there is nothing to compare with: empty, neither text nor number, braces not closed.
    """
    if isinstance(gold, (int, float)) and not isinstance(gold, bool) and math.isfinite(gold):
        return str(gold)
    if not isinstance(gold, str):
        return None
    gold = find_auto(gold) or clean_answer(gold)
    return gold if gold is not None and is_readable(gold) else None
