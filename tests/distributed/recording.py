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
        self.drawn, self.accepted = [], []
        super().__init__(*args, **kwargs)

    def _open_rollouts(self):
        super()._open_rollouts()
        stream, collect = self.sampler.stream, self.sampler.collect
        draw = stream.draw

        def recorded_draw(*args, **kwargs):
            self.drawn.append(draw(*args, **kwargs))
            return self.drawn[-1]

        def recorded_collect(*args, **kwargs):
            pool, collection = collect(*args, **kwargs)
            self.accepted.append(list(pool.accepted))
            return pool, collection

        stream.draw, self.sampler.collect = recorded_draw, recorded_collect


def lopsided_for(process: int):
    """A reward by which the groups of process 0 are mixed, but those of all others nearly always wrong."""

    def share(completion_ids: list[list[int]], **kwargs) -> list[float]:
        modulus = 2 if process == 0 else 40
        return [1.0 if ids[0] % modulus == 0 else -1.0 for ids in completion_ids]

    return share
