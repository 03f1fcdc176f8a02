"""How many rows each step of preparing a data set read, left out and kept."""

from dataclasses import dataclass, field, fields


@dataclass
class Counts:
    """
    Rows read, left out and kept. Every row read is counted in exactly one of the other fields marked as rows.

    The description of each field is what the data card says.
    """

    num_read: int = field(default=0, metadata={"text": "Rows read"})
    num_unreadable: int = field(default=0, metadata={"text": "Rows without a readable prompt or gold, left out"})
    num_duplicates: int = field(default=0, metadata={"text": "Repetitions of a problem with the same gold, left out"})
    num_conflicting: int = field(default=0, metadata={"text": "Rows of problems with conflicting golds, left out"})
    num_conflicting_problems: int = field(
        default=0, metadata={"text": "... which are so many problems", "is_rows": False}
    )
    num_too_long: int = field(default=0, metadata={"text": "Problems with a prompt over the token limit, left out"})
    num_contaminated: int = field(default=0, metadata={"text": "Problems that overlap with evaluation sets, left out"})
    num_unscorable: int = field(default=0, metadata={"text": "Problems whose pass rate could not be told, left out"})
    num_too_hard: int = field(default=0, metadata={"text": "Problems with a pass rate below the range, left out"})
    num_too_easy: int = field(default=0, metadata={"text": "Problems with a pass rate above the range, left out"})
    num_kept: int = field(default=0, metadata={"text": "**Problems kept**"})

    def described(self) -> list[tuple[str, int]]:
        """Description and value of every field, in the order of the steps."""
        return [(f.metadata["text"], getattr(self, f.name)) for f in fields(self)]

    def check_sum(self) -> None:
        """
        Raises:
            RuntimeError: if the rows left out and kept are not the rows read, which would be a mistake of ours.
        """
        rows = [f.name for f in fields(self) if f.metadata.get("is_rows", True) and f.name != "num_read"]
        total = sum(getattr(self, name) for name in rows)
        if total != self.num_read:
            raise RuntimeError(f"num_read={self.num_read} rows were read, but {total} were left out or kept: {self}")
