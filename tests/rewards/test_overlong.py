import pickle

import pytest
from trl.rewards import get_soft_overlong_punishment

from dapo_trl.rewards import SoftOverlongPunishment


@pytest.mark.parametrize(
    "length, punishment",
    [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0), (101, -1.0), (500, -1.0)],
)
def test_known_values(length, punishment):
    reward = SoftOverlongPunishment(max_completion_length=100, soft_punish_cache=20)
    assert reward(completion_ids=[[1] * length]) == [punishment]


@pytest.mark.parametrize("max_length, cache", [(100, 20), (7, 3), (16, 16), (1, 1)])
def test_equals_trl(max_length, cache):
    completion_ids = [[0] * length for length in range(max_length + 3)]
    ours = SoftOverlongPunishment(max_length, cache)(completion_ids=completion_ids, prompts=["p"])
    assert ours == get_soft_overlong_punishment(max_length, cache)(completion_ids)


def test_name_and_pickle():
    reward = pickle.loads(pickle.dumps(SoftOverlongPunishment(max_completion_length=100, soft_punish_cache=20)))
    assert reward.__name__ == "soft_overlong_punishment"
    assert reward(completion_ids=[[1] * 90]) == [-0.5]


@pytest.mark.parametrize("cache", [0, -1, 101])
def test_rejects_a_cache_outside_the_completion(cache):
    with pytest.raises(ValueError, match=f"`soft_punish_cache` is {cache} tokens.*100"):
        SoftOverlongPunishment(max_completion_length=100, soft_punish_cache=cache)
