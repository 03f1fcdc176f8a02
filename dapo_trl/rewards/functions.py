r"""
The accuracy reward, with TRL's signature.

Reward functions here are instances of classes, not closures, so that they can be pickled.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable

from .answers import THINKING_TAGS
from .outcome import Outcome, Reason
from .verifier import Verifier


logger = logging.getLogger(__name__)

# The error bound is judged over this many recent rows, so that it means the same for calls of 8 rows and of 8,000.
ERROR_WINDOW_ROWS = 256
MAX_LOGGED_ERRORS = 10


class AccuracyReward:
    r"""
    Rule-based correctness (DAPO Eq. 7, https://huggingface.co/papers/2503.14476).

    $$
    R(\hat{y}, y) = \begin{cases} 1, & \mathrm{is\_equivalent}(\hat{y}, y) \\ -1, & \text{otherwise} \end{cases}
    $$

    where \( \hat{y} \) is the final answer of the completion and \( y \) the gold in the `solution` column.

    Args:
        answer_rule (`str`, *optional*, defaults to `"auto"`):
            How the final answer is found: `"auto"`, `"boxed"`, or `"math_dapo"` (the authors' rule, to compare).
        correct (`float`, *optional*, defaults to `1.0`):
            Reward of a right answer.
        wrong (`float`, *optional*, defaults to `-1.0`):
            Reward of a wrong answer, of no answer, and of one that math-verify could not decide in time.
        timeout (`float`, *optional*, defaults to `5.0`):
            Seconds that math-verify may spend on one answer.
        max_error_fraction (`float`, *optional*, defaults to `0.05`):
            Fraction of recent rows (at least those of the current call) on which the verifier may fail before the run
            is stopped. A single failure never stops it.
        thinking_tags (`tuple[str, str]`, *optional*, defaults to `("<think>", "</think>")`):
            What the thinking stands between. Only what follows its last end is read; a thinking that does not end
            holds no answer. `("", "</think>")` where the chat template writes the beginning.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    ```python
    >>> accuracy = AccuracyReward()
    >>> accuracy(completions=["... \\boxed{34}", "Answer: 35"], solution=["34", "34"])
    [1.0, -1.0]
    ```
    """

    __name__ = "accuracy"
    required_columns = ("solution",)
    """Columns that the data must have; the trainer looks for them before it generates."""

    def __init__(
        self,
        answer_rule: str = "auto",
        correct: float = 1.0,
        wrong: float = -1.0,
        timeout: float = 5.0,
        max_error_fraction: float = 0.05,
        thinking_tags: tuple[str, str] = THINKING_TAGS,
    ):
        if not wrong < correct:
            raise ValueError(f"`wrong` is {wrong} and `correct` is {correct}, but a right answer must be worth more.")
        if not 0 <= max_error_fraction <= 1:
            raise ValueError(f"`max_error_fraction` is {max_error_fraction}, but it must be in [0, 1].")
        self.verifier = Verifier(answer_rule, timeout, thinking_tags=thinking_tags)
        self.correct = correct
        self.wrong = wrong
        self.max_error_fraction = max_error_fraction
        self._recent_errors: deque[bool] = deque(maxlen=ERROR_WINDOW_ROWS)

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
        Score completions.

        Args:
            completions (`list` of length B): texts, or conversations whose last message is scored.
            solution (`list` of length B): golds.
            log_extra (`Callable`, *optional*): called with a column name and B values.
            log_metric (`Callable`, *optional*): called with `verifier/*` and the figure of this call.
            **kwargs: further columns, ignored.

        Returns:
            `list[float | None]` of length B. `None` where the gold cannot be read or the verifier failed.

        Raises:
            ValueError: if there is no `solution` column.
            RuntimeError: if the verifier failed on more than `max_error_fraction` of the rows.
        """
        if solution is None:
            columns = ", ".join(sorted(kwargs)) or "none"
            raise ValueError(
                f"The `accuracy` reward needs the gold answers in a column `solution`, but the columns are: "
                f"{columns}. Rename the column that holds the answers."
            )
        outcomes = self.verifier([completion_text(completion) for completion in completions], solution)
        _log_outcomes(outcomes, solution, log_extra, log_metric)
        self._check_errors(outcomes, solution)
        values = {True: self.correct, False: self.wrong, None: None}
        return [values[outcome.is_correct] for outcome in outcomes]

    def _check_errors(self, outcomes: list[Outcome], solution: list) -> None:
        self._recent_errors.extend(outcome.reason is Reason.ERROR for outcome in outcomes)
        errors = [row for row, outcome in enumerate(outcomes) if outcome.reason is Reason.ERROR]
        if not errors:
            return
        for row in errors[:MAX_LOGGED_ERRORS]:
            answer, detail = outcomes[row].answer, outcomes[row].detail
            logger.warning("Verifier failed on answer %.500r, gold %.500r: %s", answer, solution[row], detail)
        num_errors, num_rows = sum(self._recent_errors), len(self._recent_errors)
        if len(outcomes) > num_rows:
            num_errors, num_rows = len(errors), len(outcomes)
        if num_errors > max(1, self.max_error_fraction * num_rows):
            raise RuntimeError(
                f"The answer verifier failed on {num_errors} of the last {num_rows} rows, more than "
                f"`max_error_fraction={self.max_error_fraction}` allows: the rewards cannot be trusted. Last failure: "
                f"{outcomes[errors[-1]].detail} (answer {outcomes[errors[-1]].answer!r:.200}, "
                f"gold {solution[errors[-1]]!r:.200})."
            )


def completion_text(completion: str | list[dict] | None) -> str:
    """The text of a completion: itself, or the content of the last message of a conversation."""
    if isinstance(completion, list):
        completion = completion[-1].get("content") if completion else None
    if isinstance(completion, list):  # content blocks
        completion = "".join(block.get("text") or "" for block in completion)
    return completion or ""


def _log_outcomes(outcomes: list[Outcome], solution: list, log_extra: Callable | None, log_metric: Callable | None):
    counts = Counter(outcome.reason for outcome in outcomes)
    if log_metric is not None and outcomes:
        for reason in (reason for reason in Reason if reason is not Reason.GOLD_UNREADABLE):
            log_metric(f"verifier/frac_{reason}", counts[reason] / len(outcomes))
        log_metric("verifier/gold_unreadable", float(counts[Reason.GOLD_UNREADABLE]))
    if log_extra is not None:
        log_extra("gold", [str(gold) for gold in solution])
        log_extra("answer", [outcome.answer or "" for outcome in outcomes])
        log_extra("verdict", [outcome.reason.value for outcome in outcomes])


accuracy = AccuracyReward()
