"""Keep the problems that a model solves sometimes: neither never nor always."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from .batches import batches
from .counts import Counts
from .generators import Generator
from .records import Record
from .scoring import RewardFunc, score


def within_pass_rate(
    records: Iterable[Record],
    generator: Generator,
    reward_func: RewardFunc,
    counts: Counts,
    *,
    k: int = 8,
    min_pass_rate: float = 0.0,
    max_pass_rate: float = 1.0,
    batch_size: int = 32,
) -> Iterator[Record]:
    """
    The records whose pass rate is in a range, with the pass rate stored.

    The pass rate is the share of `k` sampled completions with a reward above 0. A problem with a completion that
    cannot be scored (no reward) is left out and counted.

    Args:
        records (iterable of [`Record`]):
            Records to sample for.
        generator ([`Generator`]):
            Samples the completions.
        reward_func (`Callable`):
            Judges them, with TRL's signature.
        counts ([`Counts`]):
            Where records left out are counted.
        k (`int`, *optional*, defaults to 8):
            Completions per problem.
        min_pass_rate, max_pass_rate (`float`, *optional*, defaults to 0.0 and 1.0):
            Pass rates to keep, both included.
        batch_size (`int`, *optional*, defaults to 32):
            Problems per call of the generator.

    Yields:
        [`Record`]
    """
    for batch in batches(records, batch_size):
        completions = generator.generate([record.prompt for record in batch], k)
        for record, texts in zip(batch, completions, strict=True):
            pass_rate = _pass_rate(record, texts, reward_func)
            if pass_rate is None:
                counts.num_unscorable += 1
            elif pass_rate < min_pass_rate:
                counts.num_too_hard += 1
            elif pass_rate > max_pass_rate:
                counts.num_too_easy += 1
            else:
                yield replace(record, pass_rate=pass_rate)


def _pass_rate(record: Record, texts: list[str], reward_func: RewardFunc) -> float | None:
    columns = {name: [getattr(record, name)] * len(texts) for name in ("solution", "problem", "source", "id")}
    rewards = score(reward_func, [record.prompt] * len(texts), texts, columns)
    if any(reward is None for reward in rewards):
        return None
    return sum(reward > 0 for reward in rewards) / len(rewards)
