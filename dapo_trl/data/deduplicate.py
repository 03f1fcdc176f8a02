"""Each problem once; problems with conflicting gold answers not at all."""

import hashlib
import json
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

from ..rewards import AccuracyReward
from ..rewards.spelling import without_spaces
from .counts import Counts
from .records import Record
from .text import canonical_gold


def deduplicate(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    r"""
    The first record of each problem, without the problems that have records with different golds.

    Problems are compared exactly but for white space, golds as an answer with a gold: `\sqrt{8}` is `2\sqrt{2}`. A
    conflict may show up in the last row, so nothing is yielded before all records are read; meanwhile the first
    records wait in a temporary file, and memory holds about 200 bytes per different problem, and golds that are
    written otherwise than the first.

    Args:
        records (iterable of [`Record`]):
            Records in the order of the source.
        counts ([`Counts`]):
            Where records left out are counted.

    Yields:
        [`Record`], in the order of the source.
    """
    position: dict[bytes, int] = {}  # of a problem among the different ones
    golds = array("Q")  # a hash of the first gold per problem
    repeats = array("L")  # further rows per problem
    others: dict[int, set[str]] = defaultdict(set)  # golds of a problem that are written otherwise than its first
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", prefix="dapo_trl_") as spool:
        for record in records:
            key, gold = bytes.fromhex(record.id), _gold_hash(record.solution)
            at = position.setdefault(key, len(golds))
            if at == len(golds):
                golds.append(gold)
                repeats.append(0)
                spool.write(json.dumps(asdict(record)) + "\n")
            else:
                repeats[at] += 1
                if golds[at] != gold:
                    others[at].add(record.solution)
        position.clear()
        conflicting = _find_conflicts(spool, others) if others else set()
        spool.seek(0)
        for at, (line, num_repeats) in enumerate(zip(spool, repeats, strict=True)):
            if at in conflicting:
                counts.num_conflicting += num_repeats + 1
                counts.num_conflicting_problems += 1
            else:
                counts.num_duplicates += num_repeats
                yield Record(**json.loads(line))


def _find_conflicts(spool: TextIO, others: Mapping[int, set[str]]) -> set[int]:
    """The problems of which a gold states another answer than the first one; all pairs are compared at once."""
    spool.seek(0)
    firsts = {at: json.loads(line)["solution"] for at, line in enumerate(spool) if at in others}
    pairs = [(at, other) for at in firsts for other in sorted(others[at])]
    verdicts = are_same_golds([(firsts[at], other) for at, other in pairs])
    return {at for (at, _), is_same in zip(pairs, verdicts, strict=True) if not is_same}


def are_same_golds(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether two golds state the same answer: one of them, as an answer, is right if the other is the gold."""
    if not pairs:
        return []
    are_equal = AccuracyReward().verifier.are_equal
    there, back = are_equal(list(pairs)), are_equal([(second, first) for first, second in pairs])
    return [
        _gold_hash(first) == _gold_hash(second) or is_right or is_right_back
        for (first, second), is_right, is_right_back in zip(pairs, there, back, strict=True)
    ]


def _gold_hash(gold: str) -> int:
    text = without_spaces(canonical_gold(gold)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
