"""Which rows form which optimizer step."""

import pytest

from dapo_trl.batching.optimizer_steps import assign_rows


@pytest.mark.parametrize(
    ("num_rows", "num_steps", "sizes"),
    [(12, 3, [4, 4, 4]), (10, 4, [3, 3, 2, 2]), (5, 5, [1] * 5), (7, 1, [7])],
)
def test_every_row_is_assigned_once(num_rows, num_steps, sizes):
    steps = assign_rows(num_rows, num_steps, seed=0)
    assert [len(rows) for rows in steps] == sizes
    assert sorted(sum(steps, [])) == list(range(num_rows))


def test_the_seed_decides_the_assignment():
    assert assign_rows(64, 4, seed=1) == assign_rows(64, 4, seed=1)
    assert assign_rows(64, 4, seed=1) != assign_rows(64, 4, seed=2)


def test_the_assignment_mixes_groups():
    steps = assign_rows(64, 4, seed=1)
    assert all(len({row // 16 for row in rows}) > 1 for rows in steps)


def test_every_step_needs_a_row():
    with pytest.raises(ValueError, match="3 rows cannot fill 4 optimizer steps"):
        assign_rows(3, 4, seed=0)
