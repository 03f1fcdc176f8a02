"""How many prompts to draw, the pool of groups, and what a shortage means."""

import math

import pytest

from dapo_trl.sampling.groups import Outcome
from dapo_trl.sampling.refill import (
    AcceptanceRate,
    GroupPool,
    Hints,
    ShortageError,
    check_filled,
    equal_share_multiple,
    round_size,
    shortage_message,
)


GOOD, RIGHT, WRONG, NONE = Outcome.INFORMATIVE, Outcome.ALL_CORRECT, Outcome.ALL_WRONG, Outcome.UNSCORABLE


def test_acceptance_rate_of_recent_rounds():
    acceptance = AcceptanceRate(decay=0.5)
    assert acceptance.estimate() == 1.0
    acceptance.observe(num_accepted=1, num_drawn=7)
    assert acceptance.estimate() == 2 / 8
    acceptance.observe(num_accepted=4, num_drawn=8)
    # (0.5 * 1 + 4 + 1) / (0.5 * 7 + 8 + 1)
    assert acceptance.estimate() == 5.5 / 12.5


@pytest.mark.parametrize(("num_accepted", "estimate"), [(0, 1 / 17), (16, 1.0)])
def test_acceptance_rate_stays_within_its_bounds(num_accepted, estimate):
    acceptance = AcceptanceRate()
    acceptance.observe(num_accepted, num_drawn=16)
    assert acceptance.estimate() == estimate


def test_acceptance_rate_goes_on_from_its_state():
    acceptance, restored = AcceptanceRate(), AcceptanceRate()
    acceptance.observe(3, 10)
    restored.load_state_dict(acceptance.state_dict())
    for each in (acceptance, restored):
        each.observe(1, 5)
    assert restored.estimate() == acceptance.estimate() == (0.7 * 3 + 1 + 1) / (0.7 * 10 + 5 + 1)


@pytest.mark.parametrize(
    ("num_missing", "acceptance", "max_prompts", "multiple_of", "expected"),
    [
        (4, 1.0, 100, 1, 4),
        # 12 prompts yield 6 - sqrt(3) = 4.27 groups, 11 only 5.5 - sqrt(2.75) = 3.84.
        (4, 0.5, 100, 1, 12),
        # 25 prompts yield 2.5 - sqrt(2.25) = 1 group, 24 only 2.4 - sqrt(2.16) = 0.93.
        (1, 0.1, 100, 1, 25),
        (4, 0.5, 10, 1, 10),
        (4, 0.5, 10, 4, 12),
        (4, 1.0, 100, 3, 6),
        (4, 0.5, 100, 8, 16),
    ],
)
def test_round_size(num_missing, acceptance, max_prompts, multiple_of, expected):
    assert round_size(num_missing, acceptance, max_prompts, multiple_of) == expected


@pytest.mark.parametrize("acceptance", [0.05, 0.3, 0.55, 0.9, 0.99])
def test_round_size_is_the_smallest_that_probably_suffices(acceptance):
    for num_missing in range(1, 33):
        yields = [n * acceptance - math.sqrt(n * acceptance * (1 - acceptance)) for n in range(2000)]
        smallest = next(n for n, groups in enumerate(yields) if groups >= num_missing - 1e-9)
        assert round_size(num_missing, acceptance, max_prompts=10_000) == smallest


@pytest.mark.parametrize(
    ("num_generations", "num_processes", "expected"), [(16, 1, 1), (16, 4, 1), (4, 8, 2), (4, 6, 3), (3, 2, 2)]
)
def test_equal_share_multiple(num_generations, num_processes, expected):
    assert equal_share_multiple(num_generations, num_processes) == expected


def pool_of(size: int, *rounds: list[Outcome]) -> GroupPool:
    pool = GroupPool(size)
    for outcomes in rounds:
        pool.add_round(outcomes)
    return pool


def filled_pool() -> GroupPool:
    return pool_of(3, [GOOD, WRONG, GOOD, RIGHT], [NONE, GOOD, GOOD])


def test_pool_accepts_in_draw_order_while_there_is_room():
    pool = GroupPool(size=3)
    pool.add_round([GOOD, WRONG, GOOD, RIGHT])
    assert (pool.accepted, pool.num_missing, pool.num_drawn, pool.num_surplus) == ([0, 2], 1, 4, 0)
    pool.add_round([NONE, GOOD, GOOD])
    assert (pool.accepted, pool.num_missing, pool.num_drawn, pool.num_surplus) == ([0, 2, 5], 0, 7, 1)


def test_pool_tells_the_status_of_every_group():
    pool = filled_pool()
    statuses = ["kept", "all_wrong", "kept", "all_correct", "unscorable", "kept", "surplus"]
    assert [pool.status(group) for group in range(7)] == statuses


def test_pool_metrics():
    assert filled_pool().metrics() == {
        "rounds": 2,
        "acceptance_rate": 4 / 7,
        "frac_all_correct": 1 / 7,
        "frac_all_wrong": 1 / 7,
        "frac_unscorable": 1 / 7,
        "num_surplus_groups": 1,
        "generated_per_trained": 7 / 3,
    }


def test_metrics_of_an_empty_pool():
    assert set(GroupPool(size=3).metrics().values()) == {0}


def check(pool: GroupPool, is_partial_allowed: bool = True, min_groups: int = 1) -> str:
    return check_filled(
        pool, Hints(), is_partial_allowed=is_partial_allowed, min_groups=min_groups, max_rounds=2, num_prompts=99
    )


def partial_pool() -> GroupPool:
    return pool_of(5, [GOOD, WRONG, WRONG], [GOOD, RIGHT, NONE, WRONG])


@pytest.mark.parametrize("is_partial_allowed", [True, False])
def test_a_full_pool_is_no_shortage(is_partial_allowed):
    assert check(filled_pool(), is_partial_allowed) == ""


def test_a_partial_rollout_is_announced():
    assert check(partial_pool(), min_groups=2) == (
        "Only 2 of the 5 informative groups of a rollout were found among 7 generated (1 all correct, 3 all wrong, 1 "
        "unscorable), and max_rounds=2 rounds are used up. The prompts are too hard, or the reward cannot read the "
        "answers: check rewards on a few completions, use easier prompts, or raise num_generations. Raising "
        "max_rounds or max_oversampling, or a smaller rollout, also helps. Training on these, because "
        "on_shortage='train_partial'."
    )


def test_a_partial_rollout_may_be_an_error():
    with pytest.raises(ShortageError, match=r"Only 2 of the 5 .* \(1 all correct, 3 all wrong, 1 unscorable\)"):
        check(partial_pool(), is_partial_allowed=False)


def test_every_optimizer_step_needs_a_row():
    with pytest.raises(ShortageError, match="At least 3 are needed to give every optimizer step a row."):
        check(partial_pool(), min_groups=3)


NO_HINTS = Hints()


@pytest.mark.parametrize(
    ("outcomes", "hints", "remedy", "not_said"),
    [
        ([RIGHT, RIGHT, WRONG], NO_HINTS, "too easy for the model: use harder ones", "too hard"),
        ([WRONG, WRONG, RIGHT], NO_HINTS, "too hard, or the reward cannot read the answers", "too easy"),
        ([NONE, NONE, RIGHT], NO_HINTS, "returns None: check the data set's reference answers", "too"),
        ([GOOD, GOOD], NO_HINTS, "Use a larger data set", "too"),
        ([RIGHT] * 2, Hints(constant=0.5), "Every completion was judged 0.5. Check that the reward depends", "too"),
        ([RIGHT] * 2, Hints(frac_truncated=0.9), "too easy for the model", "cut off"),
        ([WRONG] * 2, Hints(constant=-1.0), "judged -1. The prompts are too hard, or the reward cannot", "raise max"),
        ([WRONG] * 2, Hints(frac_truncated=0.6), "60% of the completions are cut off before they reach", "too hard"),
        ([WRONG] * 2, Hints(0.0, frac_truncated=1.0), "judged 0. 100% of the completions", "too"),
        ([WRONG] * 2, Hints(frac_truncated=0.5), "too hard, or the reward", "cut off"),
        ([NONE] * 2, Hints(constant=1.0), "names a reward for every task", "too"),
    ],
)
def test_a_shortage_tells_its_causes_apart(outcomes, hints, remedy, not_said):
    message = shortage_message(pool_of(4, outcomes), max_rounds=1, num_prompts=9, hints=hints)
    assert remedy in message
    assert not_said not in message.split("are used up.")[1].split("Raising max_rounds")[0]


def test_a_shortage_names_its_reason():
    pool = pool_of(4, [GOOD, WRONG])
    assert "max_rounds=1 rounds are used up" in shortage_message(pool, max_rounds=1, num_prompts=2)
    assert "has drawn the whole data set (2 prompts)" in shortage_message(pool, max_rounds=2, num_prompts=2)
