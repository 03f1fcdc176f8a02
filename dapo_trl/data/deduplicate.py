"""Each problem once; problems with conflicting reference answers not at all."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ..rewards import AccuracyReward
from .records import Counts, Record


def deduplicate(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    r"""
    The first record of each problem, in the order of the source, without the problems whose records have different
    reference answers (`\sqrt{8}` is `2\sqrt{2}`); the rows left out are counted. All different problems are held in
    memory, because a conflict may show up in the last row.
    """
    firsts: dict[str, Record] = {}
    num_rows: Counter[str] = Counter()
    others: dict[str, set[str]] = defaultdict(set)  # reference answers that are written otherwise than the first
    for record in records:
        first = firsts.setdefault(record.id, record)
        num_rows[record.id] += 1
        if record.solution != first.solution:
            others[record.id].add(record.solution)
    pairs = [(problem, other) for problem, golds in others.items() for other in sorted(golds)]
    verdicts = _are_same_golds([(firsts[problem].solution, other) for problem, other in pairs])
    conflicting = {problem for (problem, _), is_same in zip(pairs, verdicts, strict=True) if not is_same}
    for problem, record in firsts.items():
        if problem in conflicting:
            counts.num_conflicting += num_rows[problem]
            counts.num_conflicting_problems += 1
        else:
            counts.num_duplicates += num_rows[problem] - 1
            yield record


def _are_same_golds(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether two reference answers state the same: one, as an answer, is right if the other is the reference."""
    if not pairs:
        return []
    are_equal = AccuracyReward().verifier.are_equal
    there, back = are_equal(list(pairs)), are_equal([(second, first) for first, second in pairs])
    return [
        first.split() == second.split() or is_right or is_right_back
        for (first, second), is_right, is_right_back in zip(pairs, there, back, strict=True)
    ]
