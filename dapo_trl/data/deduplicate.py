"""Each problem once; problems with conflicting reference answers not at all."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from .golds import are_same_golds
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
    verdicts = are_same_golds([(firsts[problem].solution, other) for problem, other in pairs])
    conflicting = {problem for (problem, _), is_same in zip(pairs, verdicts, strict=True) if not is_same}
    for problem, record in firsts.items():
        if problem in conflicting:
            counts.num_conflicting += num_rows[problem]
            counts.num_conflicting_problems += 1
        else:
            counts.num_duplicates += num_rows[problem] - 1
            yield record
