"""Is the final answer of a completion equivalent to the gold? (`is_equivalent` of DAPO Eq. 7.)"""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from .answers import THINKING_TAGS, find_gold, get_answer_rule, without_thinking
from .equivalence import compare, read
from .outcome import Outcome, Reason
from .pool import VerifierPool, shared_pool


NO_ANSWER = Outcome(False, Reason.NO_ANSWER)
GOLD_UNREADABLE = Outcome(None, Reason.GOLD_UNREADABLE)


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
        thinking_tags (`tuple[str, str]`, *optional*, defaults to `("<think>", "</think>")`):
            What the thinking stands between: no answer is read from it.

    Raises:
        ValueError: if `answer_rule` is unknown, `timeout` is not positive, or `thinking_tags` are not two texts.

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
        thinking_tags: tuple[str, str] = THINKING_TAGS,
    ):
        if not timeout > 0:
            raise ValueError(f"`timeout` is {timeout}, but it must be a positive number of seconds.")
        is_pair = isinstance(thinking_tags, list | tuple) and [type(tag) for tag in thinking_tags] == [str, str]
        if not is_pair or not thinking_tags[1] or thinking_tags[0] == thinking_tags[1]:
            raise ValueError(
                f"`thinking_tags` is {thinking_tags!r}, but it must be two texts, the beginning (which may be empty, "
                "where the chat template writes it) and the end of the thinking, which must differ and not be empty."
            )
        self.rule = get_answer_rule(answer_rule)
        self.timeout = timeout
        self.cache_size = cache_size
        self.thinking_tags = tuple(thinking_tags)
        self._pool = pool
        self._is_readable: dict[str, bool] = {}
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
        answers = [self._find(completion or "") for completion in completions]
        if self.rule.equals is not None:
            return [self._judge_by_rule(answer, gold) for answer, gold in zip(answers, golds, strict=True)]
        texts = [read_gold(gold) for gold in golds]
        decided = {pair: _decide(*pair) for pair in dict.fromkeys(zip(answers, texts, strict=True))}
        verdicts = self._verify([pair for pair, outcome in decided.items() if outcome is None])
        self._check_golds({gold for gold in texts if gold and not gold.isdigit() and not read(gold).is_plain})
        outcomes = []
        for answer, gold in zip(answers, texts, strict=True):
            is_readable = gold is not None and self._is_readable.get(gold, True)
            outcome = (decided[answer, gold] or verdicts[answer, gold]) if is_readable else GOLD_UNREADABLE
            outcomes.append(replace(outcome, answer=answer))
        return outcomes

    def are_equal(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """
        Do two found answers state the same? They are compared as an answer is with a gold.

        Args:
            pairs (`list[tuple[str, str]]` of length B): answers as [`Outcome.answer`] holds them.

        Returns:
            `list[bool]` of length B. What math-verify cannot decide counts as different.
        """
        if self.rule.equals is not None:
            return [self.rule.equals(*pair) for pair in pairs]
        verdicts = {pair: compare(*pair) for pair in set(pairs)}
        verdicts |= self._verify([pair for pair, outcome in verdicts.items() if outcome is None])
        return [bool(verdicts[pair].is_correct) for pair in pairs]

    def _find(self, completion: str) -> str | None:
        text = completion if self.rule.equals else without_thinking(completion, self.thinking_tags)
        return self.rule.find(text)

    def _judge_by_rule(self, answer: str | None, gold) -> Outcome:
        if read_gold(gold) is None:
            return replace(GOLD_UNREADABLE, answer=answer)
        return NO_ANSWER if answer is None else Outcome(self.rule.equals(answer, str(gold)), Reason.RULE, answer)

    def _check_golds(self, golds: set[str]) -> None:
        """Find out which golds math-verify can read, whatever the answers; a gold is right as its own answer."""
        for _ in range(2):  # where time runs out the machine may be busy: once more
            verdicts = self._verify([(gold, gold) for gold in sorted(golds - self._is_readable.keys())])
        late = [gold for (gold, _), outcome in verdicts.items() if outcome.reason is Reason.TIMEOUT]
        self._is_readable.update(dict.fromkeys(late, False))

    def _verify(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Outcome]:
        """Verdicts of distinct pairs, from the cache or from math-verify. Errors and time-outs are not remembered."""
        verdicts = {pair: self._cache[pair] for pair in pairs if pair in self._cache}
        new_pairs = [pair for pair in pairs if pair not in verdicts]
        new_outcomes = (self._pool or shared_pool()).check(new_pairs, self.timeout) if new_pairs else []
        verdicts |= dict(zip(new_pairs, new_outcomes, strict=True))
        for pair, outcome in verdicts.items():
            if outcome.reason not in (Reason.ERROR, Reason.TIMEOUT):
                self._is_readable[pair[1]] = outcome.reason is not Reason.GOLD_UNREADABLE
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
    gold = find_gold(gold)
    return gold if gold is not None and _is_balanced(gold) else None


def _is_balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _decide(answer: str | None, gold: str | None) -> Outcome | None:
    """The outcome, if that takes no math-verify."""
    if gold is None:
        return GOLD_UNREADABLE
    return NO_ANSWER if answer is None else compare(answer, gold)
