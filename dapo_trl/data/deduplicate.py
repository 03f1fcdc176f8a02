"""Each problem once; problems with conflicting gold answers not at all."""

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from ..rewards.spelling import without_spaces
from .counts import Counts
from .records import Record
from .text import canonical_gold


def deduplicate(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    """
    The first record of each problem, without the problems that have records with different golds.

    Problems are compared exactly but for white space, golds but for white space, the spelling of LaTeX and the writing
    of numbers.
    A conflict may show up in the last row, so nothing is yielded before all records are read; meanwhile the first
    records wait in a temporary file, and memory holds about 200 bytes per different problem.

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
    is_conflicting = bytearray()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", prefix="dapo_trl_") as spool:
        for record in records:
            key, gold = bytes.fromhex(record.id), _gold_hash(record.solution)
            at = position.setdefault(key, len(golds))
            if at == len(golds):
                golds.append(gold)
                repeats.append(0)
                is_conflicting.append(False)
                spool.write(json.dumps(asdict(record)) + "\n")
            else:
                repeats[at] += 1
                is_conflicting[at] |= golds[at] != gold
        position.clear()
        spool.seek(0)
        for line, num_repeats, conflicts in zip(spool, repeats, is_conflicting, strict=True):
            if conflicts:
                counts.num_conflicting += num_repeats + 1
                counts.num_conflicting_problems += 1
            else:
                counts.num_duplicates += num_repeats
                yield Record(**json.loads(line))


def _gold_hash(gold: str) -> int:
    text = without_spaces(canonical_gold(gold)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
