"""A trainer that remembers what it drew and what it kept."""

from dapo_trl import DAPOTrainer


class RecordingTrainer(DAPOTrainer):
    """
    Attributes:
        drawn (`list[list[int]]`): prompts of each round.
        accepted (`list[list[int]]`): positions of the accepted groups among the drawn ones, for each rollout.
    """

    drawn: list[list[int]]
    accepted: list[list[int]]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.drawn, self.accepted = [], []

    def _draw_prompts(self, pool):
        indices = super()._draw_prompts(pool)
        self.drawn += [indices] if indices else []
        return indices

    def _collect_informative_groups(self):
        pool, collection = super()._collect_informative_groups()
        self.accepted.append(list(pool.accepted))
        return pool, collection


def lopsided_for(process: int):
    """A reward by which the groups of process 0 are mixed, but those of all others nearly always wrong."""

    def share(completion_ids: list[list[int]], **kwargs) -> list[float]:
        modulus = 2 if process == 0 else 40
        return [1.0 if ids[0] % modulus == 0 else -1.0 for ids in completion_ids]

    return share
