"""What a check of a data set found."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """A gold answer that, as a completion, did not score: the row, what was scored, by which function, and why."""

    row: int
    reward_func: str
    completion: str
    solution: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.reward_func}, gold {self.solution!r} as {self.completion!r}: {self.reason}"


class CheckFailedError(ValueError):
    """Too few gold answers of a data set score. `report` holds the [`CheckReport`]."""

    def __init__(self, message: str, report: "CheckReport"):
        super().__init__(message)
        self.report = report


@dataclass
class CheckReport:
    """
    What a check found, over the rows looked at.

    Args:
        num_rows (`int`):
            Rows of the data set.
        num_checked (`int`):
            Rows looked at.
        frac_right (`dict[str, float]`):
            Per reward function, the share of gold answers that scored above 0.
        failures (`list[Failure]`):
            The ones that did not.
        num_duplicates (`int`):
            Rows whose prompt stands in an earlier row.
        num_conflicting (`int`):
            Those of them with another gold answer.
        answer_types (`Counter`):
            Gold answers per kind.
        prompt_tokens (`dict[str, int]`):
            Minimum, median, 95th percentile and maximum of the prompts' tokens; empty without a tokenizer.
    """

    num_rows: int
    num_checked: int
    frac_right: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    num_duplicates: int = 0
    num_conflicting: int = 0
    answer_types: Counter = field(default_factory=Counter)
    prompt_tokens: dict[str, int] = field(default_factory=dict)

    def summary(self, max_failures: int = 20) -> str:
        """The report as lines of text, with the first failures."""
        types = ", ".join(f"{kind} {number}" for kind, number in self.answer_types.most_common())
        lines = [f"rows checked: {self.num_checked} of {self.num_rows}"]
        lines += [f"golds that score, {name}: {frac:.2%}" for name, frac in self.frac_right.items()]
        lines += [f"duplicates: {self.num_duplicates}, with another gold: {self.num_conflicting}"]
        lines += [f"answer types: {types}"]
        if self.prompt_tokens:
            lengths = ", ".join(f"{name} {number}" for name, number in self.prompt_tokens.items())
            lines.append(f"prompt tokens: {lengths}")
        lines += [f"  {failure}" for failure in self.failures[:max_failures]]
        if len(self.failures) > max_failures:
            lines.append(f"  ... and {len(self.failures) - max_failures} more")
        return "\n".join(lines)
