"""Is the final answer of a completion equivalent to the gold? (`is_equivalent` of DAPO Eq. 7.)"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from .answers import THINKING_TAGS, find_gold, get_answer_rule
from .equivalence import compare, read
from .outcome import Outcome, Reason
from .pool import VerifierPool, shared_pool


CACHE_SIZE = 50_000  # verdicts of math-verify that are remembered
NO_ANSWER = Outcome(False, Reason.NO_ANSWER)
GOLD_UNREADABLE = Outcome(None, Reason.GOLD_UNREADABLE)


class Verifier:
    """Finds and compares final answers: by rules, or else by math-verify in `pool`; see [`AccuracyReward`]."""

    def __init__(
        self,
        answer_rule: str = "auto",
        timeout: float = 5.0,
        pool: VerifierPool | None = None,
        thinking_tags: Sequence[str] = THINKING_TAGS,
    ):
        if not timeout > 0:
            raise ValueError(f"`timeout` is {timeout}, but it must be a positive number of seconds.")
        match thinking_tags:  # a sequence; a text is none here
            case [str(begin), str(end)] if end and begin != end:
                self.thinking_tags = begin, end
            case _:
                raise ValueError(
                    f"`thinking_tags` is {thinking_tags!r}, but it must be two texts, the beginning of the thinking "
                    "(empty where the chat template writes it) and the end, which must be another one and not empty."
                )
        self.rule = get_answer_rule(answer_rule)
        self.timeout = timeout
        self._pool = pool
        self._is_readable: dict[str, bool] = {}
        self._cache: dict[tuple[str, str], Outcome] = {}

    def __call__(self, completions: Sequence[str | None], golds: Sequence) -> list[Outcome]:
        """Outcomes of B completions (`None` is an empty one) and B golds; `ValueError` if there are not as many."""
        answers = [self._find(completion or "") for completion in completions]
        texts = [read_gold(gold) for gold in golds]
        if self.rule.equals:  # as written
            texts = [text and str(gold) for text, gold in zip(texts, golds, strict=True)]
        pairs = list(zip(answers, texts, strict=True))
        verdicts = self._judge(pairs)
        if self.rule.equals is None:
            self._check_golds({gold for _, gold in pairs if gold and not gold.isdigit() and not read(gold).is_plain})
        return [
            replace(verdicts[pair] if self._is_readable.get(pair[1] or "", True) else GOLD_UNREADABLE, answer=pair[0])
            for pair in pairs
        ]

    def are_equal(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether pairs of found answers state the same, compared as an answer and a gold; `False` if undecided."""
        verdicts = self._judge(pairs)
        return [bool(verdicts[pair].is_correct) for pair in pairs]

    def _judge(self, pairs: Sequence[tuple[str | None, str | None]]) -> dict[tuple[str | None, str | None], Outcome]:
        verdicts: dict[tuple[str | None, str | None], Outcome] = {}
        undecided = []
        for answer, gold in dict.fromkeys(pairs):
            if answer is None or gold is None:
                verdicts[answer, gold] = GOLD_UNREADABLE if gold is None else NO_ANSWER
            elif self.rule.equals:
                verdicts[answer, gold] = Outcome(self.rule.equals(answer, gold), Reason.RULE)
            elif outcome := compare(answer, gold):
                verdicts[answer, gold] = outcome
            else:
                undecided.append((answer, gold))
        verdicts |= self._verify(undecided).items()
        return verdicts

    def _find(self, completion: str) -> str | None:
        begin, end = self.thinking_tags
        if self.rule.equals is None:  # no thinking; without a tag for its beginning, the completion begins with it
            _, ended, completion = completion.rpartition(end)
            completion = completion.partition(begin)[0] if begin else completion if ended else ""
        return self.rule.find(completion)

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
        verdicts |= zip(new_pairs, (self._pool or shared_pool).check(new_pairs, self.timeout), strict=True)
        for pair, outcome in verdicts.items():
            if outcome.reason not in (Reason.ERROR, Reason.TIMEOUT):
                self._is_readable[pair[1]] = outcome.reason is not Reason.GOLD_UNREADABLE
                self._cache[pair] = self._cache.pop(pair, outcome)  # the newest is the last
        while len(self._cache) > CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        return verdicts

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pool": None, "_cache": {}}


def read_gold(gold) -> str | None:
    """The answer that a number, a text or a worked solution states; `None` if empty, or with braces not closed."""
    if isinstance(gold, (int, float)) and not isinstance(gold, bool) and math.isfinite(gold):
        return str(gold)
    if not isinstance(gold, str):
        return None
    gold = find_gold(gold)
    braces = re.findall(r"(?<!\\)[{}]", gold or "")
    return gold if braces.count("{") == braces.count("}") else None
