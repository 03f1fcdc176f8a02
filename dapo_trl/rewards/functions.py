"""The reward functions, with TRL's signature; instances of classes, not closures, so that they can be pickled."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from .answers import THINKING_TAGS
from .outcome import Outcome, Reason
from .verifier import Verifier


logger = logging.getLogger(__name__)

# The error bound is judged over this many recent rows, so that it means the same for calls of 8 rows and of 8,000.
ERROR_WINDOW_ROWS, MAX_LOGGED_ERRORS = 256, 10


class AccuracyReward:
    r"""
    Rule-based correctness (DAPO Eq. 7, https://huggingface.co/papers/2503.14476).

    $$ R(\hat{y}, y) = \begin{cases} 1, & \mathrm{is\_equivalent}(\hat{y}, y) \\ -1, & \text{otherwise} \end{cases} $$

    where \( \hat{y} \) is the final answer of the completion and \( y \) the gold in the `solution` column.

    Args:
        answer_rule (`str`, *optional*, defaults to `"auto"`):
            How the final answer is found: `"auto"`, `"boxed"`, or `"math_dapo"` (the authors' rule, to compare).
        correct, wrong (`float`, *optional*, default to `1.0` and `-1.0`):
            Rewards. Wrong is also no answer, and one that math-verify could not decide in time.
        timeout (`float`, *optional*, defaults to `5.0`):
            Seconds that math-verify may spend on one answer.
        max_error_fraction (`float`, *optional*, defaults to `0.05`):
            Fraction of recent rows on which the verifier may fail, beyond a single one, before the run is stopped.
        thinking_tags (`Sequence[str]` of two, *optional*, defaults to `("<think>", "</think>")`):
            What the thinking stands between, which is not read. `("", "</think>")` where the chat template writes the
            beginning.

    Raises:
        ValueError: if an argument is out of range.

    >>> accuracy = AccuracyReward()
    >>> accuracy(completions=["... \\boxed{34}", "Answer: 35"], solution=["34", "34"])
    [1.0, -1.0]
    """

    __name__ = "accuracy"
    required_columns = ("solution",)  # the trainer looks for them before it generates

    def __init__(
        self,
        answer_rule: str = "auto",
        correct: float = 1.0,
        wrong: float = -1.0,
        timeout: float = 5.0,
        max_error_fraction: float = 0.05,
        thinking_tags: Sequence[str] = THINKING_TAGS,
    ):
        if not wrong < correct:
            raise ValueError(f"`wrong` is {wrong} and `correct` is {correct}, but a right answer must be worth more.")
        if not 0 <= max_error_fraction <= 1:
            raise ValueError(f"`max_error_fraction` is {max_error_fraction}, but it must be in [0, 1].")
        self.verifier = Verifier(answer_rule, timeout, thinking_tags=thinking_tags)
        self.correct = correct
        self.wrong = wrong
        self.max_error_fraction = max_error_fraction
        self._recent_errors: list[bool] = []

    @property
    def answer_rule(self) -> str:
        """Name and version of the answer rule, such as `"auto-2"`."""
        return self.verifier.rule.tag

    @property
    def thinking_tags(self) -> tuple[str, str] | None:
        """What the thinking stands between; `None` for a rule that reads all of a text."""
        return None if self.verifier.rule.equals else self.verifier.thinking_tags

    def __call__(
        self,
        completions: list,
        solution: list | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **kwargs,
    ) -> list[float | None]:
        """
        Rewards of B completions: texts, or conversations whose last message is scored; `solution` has the golds.

        `None` where the gold cannot be read or the verifier failed. `log_extra` is called with a column name and B
        values, `log_metric` with `verifier/*` and the figure of this call. Further columns are ignored.

        Raises:
            ValueError: if there is no `solution` column.
            RuntimeError: if the verifier failed on more than `max_error_fraction` of the rows.
        """
        if solution is None:
            raise ValueError(
                "The `accuracy` reward needs the reference answers in a column `solution`, but the columns are: "
                f"{', '.join(sorted(kwargs)) or 'none'}. Rename the column that holds the answers."
            )
        outcomes = self.verifier([completion_text(completion) for completion in completions], solution)
        counts = Counter(outcome.reason for outcome in outcomes)
        if log_metric is not None and outcomes:
            for reason in (reason for reason in Reason if reason is not Reason.GOLD_UNREADABLE):
                log_metric(f"verifier/frac_{reason}", counts[reason] / len(outcomes))
            log_metric("verifier/gold_unreadable", float(counts[Reason.GOLD_UNREADABLE]))
        if log_extra is not None:
            log_extra("gold", [str(gold) for gold in solution])
            log_extra("answer", [outcome.answer or "" for outcome in outcomes])
            log_extra("verdict", [outcome.reason.value for outcome in outcomes])
        self._check_errors(outcomes, solution)
        values: dict[bool | None, float] = {True: self.correct, False: self.wrong}
        return [values.get(outcome.is_correct) for outcome in outcomes]

    def _check_errors(self, outcomes: list[Outcome], solution: list) -> None:
        failed = [row for row, outcome in enumerate(outcomes) if outcome.reason is Reason.ERROR]
        for row in failed[-MAX_LOGGED_ERRORS:]:
            answer, detail = outcomes[row].answer, outcomes[row].detail
            logger.warning("Verifier failed on answer %.500r, gold %.500r: %s", answer, solution[row], detail)
        recent = self._recent_errors + [outcome.reason is Reason.ERROR for outcome in outcomes]
        self._recent_errors = recent[-max(ERROR_WINDOW_ROWS, len(outcomes)) :]
        num_errors, num_rows = sum(self._recent_errors), len(self._recent_errors)
        if failed and num_errors > max(1, self.max_error_fraction * num_rows):
            raise RuntimeError(
                f"The answer verifier failed on {num_errors} of the last {num_rows} rows, more than "
                f"`max_error_fraction={self.max_error_fraction}` allows: the rewards cannot be trusted. Last failure: "
                f"{detail} (answer {answer!r:.200}, gold {solution[row]!r:.200})."
            )


class SoftOverlongPunishment:
    r"""
    Soft overlong punishment (DAPO Eq. 13, https://huggingface.co/papers/2503.14476).

    $$ R_{\text{length}}(y) = \begin{cases} 0, & |y| \le L_{\max} - L_{\text{cache}} \\
    \dfrac{(L_{\max} - L_{\text{cache}}) - |y|}{L_{\text{cache}}}, & L_{\max} - L_{\text{cache}} < |y| \le L_{\max} \\
    -1, & L_{\max} < |y| \end{cases} $$

    Args:
        max_completion_length (`int`):
            \( L_{\max} \), in tokens: the longest completion that is generated.
        soft_punish_cache (`int`):
            \( L_{\text{cache}} \), in tokens: the punishment grows over the last `soft_punish_cache` tokens before it.

    Raises:
        ValueError: if `soft_punish_cache` is not in `(0, max_completion_length]`.

    >>> SoftOverlongPunishment(max_completion_length=100, soft_punish_cache=20)(completion_ids=[[1] * 80, [1] * 90])
    [0.0, -0.5]
    """

    __name__ = "soft_overlong_punishment"

    def __init__(self, max_completion_length: int, soft_punish_cache: int):
        if not 0 < soft_punish_cache <= max_completion_length:
            raise ValueError(
                f"`soft_punish_cache` is {soft_punish_cache} tokens, but it must be in (0, `max_completion_length`] = "
                f"(0, {max_completion_length}]."
            )
        self.max_completion_length = max_completion_length
        self.soft_punish_cache = soft_punish_cache

    def __call__(self, completion_ids: list[list[int]], **kwargs) -> list[float]:
        """Rewards of B lists of token ids, in [-1, 0]; further columns are ignored."""
        room, cache = self.max_completion_length - self.soft_punish_cache, self.soft_punish_cache
        lengths = [len(ids) for ids in completion_ids]
        return [min(0.0, (room - length) / cache) if length <= room + cache else -1.0 for length in lengths]


def completion_text(completion: str | list[dict] | None) -> str:
    """The text of a completion: itself, or the content of the last message of a conversation."""
    if isinstance(completion, list):
        completion = completion[-1].get("content") if completion else None
    if isinstance(completion, list):  # content blocks
        completion = "".join(block.get("text") or "" for block in completion)
    return completion or ""


accuracy = AccuracyReward()
