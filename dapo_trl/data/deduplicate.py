"""Each problem once; problems with conflicting reference answers not at all."""

import hashlib
import json
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TextIO

from .golds import are_same_golds
from .records import Counts, Record


def deduplicate(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    r"""
    The first record of each problem, in the order of the source, without the problems that have records with different
    reference answers.

    Problems are compared exactly but for white space, reference answers as an answer with its reference: `\sqrt{8}` is
    `2\sqrt{2}`. A conflict may show up in the last row, so nothing is yielded before all records are read; meanwhile
    the first records wait in a temporary file, and memory holds about 200 bytes per different problem, and reference
    answers that are written otherwise than the first.

    Args:
        records (iterable of [`Record`]): records in the order of the source.
        counts ([`Counts`]): where records left out are counted.
    """
    position: dict[bytes, int] = {}  # of a problem among the different ones
    golds = array("Q")  # a hash of the first reference answer per problem
    repeats = array("L")  # further rows per problem
    others: dict[int, set[str]] = defaultdict(set)  # what is written otherwise than the first
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", prefix="dapo_trl_") as spool:
        for record in records:
            key, gold = bytes.fromhex(record.id), _hash(record.solution)
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
    """The problems of which a reference answer states another than the first; all pairs are compared at once."""
    spool.seek(0)
    firsts = {at: json.loads(line)["solution"] for at, line in enumerate(spool) if at in others}
    pairs = [(at, other) for at in firsts for other in sorted(others[at])]
    verdicts = are_same_golds([(firsts[at], other) for at, other in pairs])
    return {at for (at, _), is_same in zip(pairs, verdicts, strict=True) if not is_same}


def _hash(gold: str) -> int:
    return int.from_bytes(hashlib.blake2b(gold.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest())
