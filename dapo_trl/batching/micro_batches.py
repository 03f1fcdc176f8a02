"""
Partition one optimizer step into micro-batches: same rows, same gradient, less padding.

Every process runs its k-th micro-batch at the same time as the others run theirs, and the step waits for the slowest.
So the partition is made once for all processes: the rows are sorted by length and taken in tuples, one row for each
process, and a run of consecutive tuples makes the k-th micro-batch of every process. Row counts are equal on all
processes, lengths nearly so.
"""

from typing import NamedTuple

import numpy as np


PADDING_ROW = -1
"""Stands for a row that weighs nothing, where a step has fewer rows than its micro-batches need."""


class Lengths(NamedTuple):
    """Tokens of one row."""

    prompt: int
    completion: int


SLACK = 1.05
"""
How far the costliest micro-batch, which decides about peak memory, may be above the least possible. With 1.15 there
would be 0.1% to 0.9% less padding. A cost with attention's quadratic term does no better: it saves less than 1% of the
time, and the costliest micro-batch can hold half as many tokens again.
"""

MAX_TUPLES = 256
"""Tuples among which the best partition is searched: that takes time with their square, times the micro-batches."""

Partition = list[list[list[int]]]
"""Rows of each micro-batch: `partition[process][micro_batch]` is a list of row numbers or `PADDING_ROW`."""


def partition_balanced(lengths: list[Lengths], num_processes: int, num_micro_batches: int) -> Partition:
    """
    Micro-batches of nearly equal cost and different row counts, as many rows in the k-th one of each of R processes.

    The cost of a micro-batch is what is computed and kept in memory: rows times tokens of the longest row. Among the
    partitions whose costliest micro-batch is at most 5% above the least possible, the one with the least padding is
    taken.
    """
    num_tuples = max(num_micro_batches, -(-len(lengths) // num_processes))
    tuples = _row_tuples(_by_length(lengths), lengths, num_processes, num_tuples)
    longest = [max(sum(_length(lengths, row)) for row in rows) for rows in tuples]
    return _partition_at(tuples, _balanced_ends(longest, num_micro_batches))


def partition_equal(lengths: list[Lengths], num_processes: int, num_micro_batches: int, is_sorted: bool) -> Partition:
    """Micro-batches of equal row counts, in the given order or by length, for losses that average over their rows."""
    num_rows = -(-len(lengths) // (num_processes * num_micro_batches))
    order = _by_length(lengths) if is_sorted else list(range(len(lengths)))
    tuples = _row_tuples(order, lengths, num_processes, num_rows * num_micro_batches)
    return _partition_at(tuples, [num_rows * (k + 1) for k in range(num_micro_batches)])


def micro_batch_tokens(rows: list[int], lengths: list[Lengths]) -> int:
    """Tokens computed for one micro-batch, padding included: rows times tokens of the longest row."""
    return len(rows) * max(sum(_length(lengths, row)) for row in rows)


def _length(lengths: list[Lengths], row: int) -> Lengths:
    return Lengths(1, 1) if row == PADDING_ROW else lengths[row]


def _by_length(lengths: list[Lengths]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: (-sum(lengths[row]), row))


def _row_tuples(order: list[int], lengths: list[Lengths], num_processes: int, num_tuples: int) -> list[list[int]]:
    """`num_tuples` tuples of R rows each; the process with the fewest tokens so far gets the longest row of each."""
    filled = order + [PADDING_ROW] * (num_tuples * num_processes - len(order))
    tuples, num_tokens = [], [0] * num_processes
    for i in range(0, len(filled), num_processes):
        longest_first = sorted(filled[i : i + num_processes], key=lambda row: -sum(_length(lengths, row)))
        least_first = sorted(range(num_processes), key=num_tokens.__getitem__)
        of_process = dict(zip(least_first, longest_first, strict=True))
        tuples.append([of_process[process] for process in range(num_processes)])
        for process, row in of_process.items():
            num_tokens[process] += sum(_length(lengths, row))
    return tuples


def _balanced_ends(longest: list[int], num_segments: int) -> list[int]:
    """Ends of the segments of tuples, of which the longest row is given; halved while there are too many to search."""
    num_tuples = len(longest)
    if num_segments == 1:
        return [num_tuples]
    if num_tuples <= MAX_TUPLES:
        cost = _segment_costs(longest)
        return _cheapest_ends(cost, num_segments, bound=SLACK * _least_bound(cost, num_segments))
    half = num_tuples // 2
    share = sum(longest[:half]) / sum(longest)
    num_first = min(max(1, round(num_segments * share)), half, num_segments - 1)
    num_first = max(num_first, num_segments - (num_tuples - half))
    first = _balanced_ends(longest[:half], num_first)
    return first + [half + end for end in _balanced_ends(longest[half:], num_segments - num_first)]


def _segment_costs(longest: list[int]) -> np.ndarray:
    """`(M, M + 1)`: cost of a micro-batch that holds the tuples i to j - 1, longest first; infinite where j <= i."""
    first, end = np.arange(len(longest))[:, None], np.arange(len(longest) + 1)
    return np.where(end > first, np.array(longest)[:, None] * (end - first), np.inf)


def _least_bound(cost: np.ndarray, num_segments: int) -> float:
    """The least possible cost of the costliest of `num_segments` segments."""
    candidates = np.unique(cost[np.isfinite(cost)])
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if _segments_needed(cost, candidates[middle]) <= num_segments:
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


def _segments_needed(cost: np.ndarray, bound: float) -> float:
    """Segments that a greedy partition needs under the bound: exact, because a longer segment never costs less."""
    start, count = 0, 0
    while start < len(cost):
        row = cost[start, start + 1 :]
        fitting = int(np.searchsorted(row, bound, side="right"))
        if fitting == 0:
            return np.inf
        start, count = start + fitting, count + 1
    return count


def _cheapest_ends(cost: np.ndarray, num_segments: int, bound: float) -> list[int]:
    """Ends of exactly `num_segments` segments of least total cost, none above the bound (dynamic programme)."""
    allowed = np.where(cost <= bound, cost, np.inf)
    best = np.full(cost.shape[1], np.inf)
    best[0] = 0.0
    starts = []
    for _ in range(num_segments):
        total = best[:-1, None] + allowed
        starts.append(total.argmin(axis=0))
        best = total.min(axis=0)
    ends = [cost.shape[1] - 1]
    for start in reversed(starts[1:]):
        ends.append(int(start[ends[-1]]))
    return ends[::-1]


def _partition_at(tuples: list[list[int]], ends: list[int]) -> Partition:
    num_processes = len(tuples[0])
    begins = [0, *ends[:-1]]
    return [
        [[rows[process] for rows in tuples[begin:end]] for begin, end in zip(begins, ends, strict=True)]
        for process in range(num_processes)
    ]
