"""The cursor over the data set: each prompt once per pass, never twice in a rollout, resumable."""

import copy

import pytest

from dapo_trl.sampling.prompts import PromptStream, prompts_fingerprint


def draw_rollouts(stream: PromptStream, sizes: list[int]) -> list[list[int]]:
    """One rollout per size."""
    rollouts = []
    for size in sizes:
        stream.begin_rollout()
        rollouts.append(stream.draw(size))
    return rollouts


def passes(num_prompts: int, seed: int, num_passes: int) -> list[list[int]]:
    """Whole passes, one rollout each: no rollout crosses the end of a pass."""
    return draw_rollouts(PromptStream(num_prompts, seed), [num_prompts] * num_passes)


def test_data_order_starts_again_after_a_pass():
    stream = PromptStream(5, seed=0, shuffle=False)
    # 0 1 2 | 3 4 0 1 | 2 3 4 0 1 | 2
    assert draw_rollouts(stream, [3, 4, 5, 1]) == [[0, 1, 2], [3, 4, 0, 1], [2, 3, 4, 0, 1], [2]]


def test_every_pass_is_a_seeded_permutation_of_its_own():
    first, second, third = passes(50, seed=1, num_passes=3)
    assert sorted(first) == sorted(second) == sorted(third) == list(range(50))
    assert first != second != third != first != list(range(50))
    assert passes(50, seed=1, num_passes=3) == [first, second, third]
    assert passes(50, seed=2, num_passes=3) != [first, second, third]


def test_several_draws_of_a_rollout_are_one_sequence():
    stream = PromptStream(50, seed=3)
    assert stream.draw(7) + stream.draw(1) + stream.draw(12) == passes(50, seed=3, num_passes=1)[0][:20]


def test_prompts_already_drawn_in_a_rollout_go_to_the_end_of_the_next_pass():
    first, second = passes(6, seed=5, num_passes=2)
    crossing = set(first[4:])  # the second rollout draws these two, then crosses into the next pass
    reordered = [i for i in second if i not in crossing] + [i for i in second if i in crossing]

    stream = PromptStream(6, seed=5)
    assert draw_rollouts(stream, [4, 5]) == [first[:4], first[4:] + reordered[:3]]
    stream.begin_rollout()
    assert stream.draw(3) == reordered[3:]


@pytest.mark.parametrize("sizes", [[4] * 9, [7, 1, 3, 2, 6, 5, 7, 7, 4], [5, 6] * 6])
@pytest.mark.parametrize("shuffle", [True, False])
def test_once_per_pass_and_never_twice_in_a_rollout(sizes, shuffle):
    for seed in range(20):
        rollouts = draw_rollouts(PromptStream(7, seed, shuffle), sizes)
        assert [len(set(rollout)) for rollout in rollouts] == sizes
        drawn = sum(rollouts, [])
        for start in range(0, len(drawn) - 6, 7):
            assert sorted(drawn[start : start + 7]) == list(range(7))


def test_a_rollout_ends_with_the_data_set():
    stream = PromptStream(5, seed=0)
    draw_rollouts(stream, [3])
    stream.begin_rollout()
    assert len(stream.draw(4)) == 4
    assert len(stream.draw(4)) == 1
    assert stream.draw(4) == []
    stream.begin_rollout()
    assert len(stream.draw(4)) == 4


def test_draws_are_cut_to_a_multiple():
    stream = PromptStream(7, seed=0)
    assert len(stream.draw(3, multiple_of=2)) == 2
    assert len(stream.draw(9, multiple_of=4)) == 4  # 5 are left
    assert stream.draw(2, multiple_of=2) == []  # 1 is left
    assert len(stream.draw(2)) == 1


def test_epoch_counts_passes_over_the_data_drawn():
    stream = PromptStream(8, seed=0)
    epochs = []
    for size in (6, 4, 6, 2):
        draw_rollouts(stream, [size])
        epochs.append(stream.epoch)
    assert epochs == [0.75, 1.25, 2.0, 2.25]


@pytest.mark.parametrize("shuffle", [True, False])
def test_goes_on_from_its_state_at_every_position(shuffle):
    sizes = [4, 3, 6, 1, 5, 2, 7, 4, 4, 3]
    for num_before in range(len(sizes)):
        stream = PromptStream(7, seed=11, shuffle=shuffle)
        draw_rollouts(stream, sizes[:num_before])
        state = copy.deepcopy(stream.state_dict())

        restored = PromptStream(7, seed=11, shuffle=shuffle)
        restored.load_state_dict(state)
        assert restored.epoch == stream.epoch
        assert draw_rollouts(restored, sizes[num_before:]) == draw_rollouts(stream, sizes[num_before:])


def test_a_rollout_given_up_half_way_is_not_drawn_again():
    stream = PromptStream(9, seed=4)
    draw_rollouts(stream, [5])
    stream.begin_rollout()
    stream.draw(2)

    restored = PromptStream(9, seed=4)
    restored.load_state_dict(stream.state_dict())
    assert draw_rollouts(restored, [4, 9]) == draw_rollouts(stream, [4, 9])


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"num_prompts": 8, "seed": 1}, "num_prompts=7, but this run has num_prompts=8"),
        ({"num_prompts": 7, "seed": 2}, "seed=1, but this run has seed=2"),
        ({"num_prompts": 7, "seed": 1, "shuffle": False}, "shuffle=True, but this run has shuffle=False"),
    ],
)
def test_a_foreign_state_is_refused(other, name):
    with pytest.raises(ValueError, match=f"{name}.*Resume with the same"):
        PromptStream(**other).load_state_dict(PromptStream(7, seed=1).state_dict())


@pytest.mark.parametrize("num_prompts", [0, -1])
def test_an_empty_data_set_is_refused(num_prompts):
    with pytest.raises(ValueError, match=f"num_prompts is {num_prompts}"):
        PromptStream(num_prompts, seed=0)


def test_fingerprint_tells_data_sets_of_the_same_size_apart():
    assert prompts_fingerprint(["a", "b"]) == prompts_fingerprint(["a", "b"])
    assert prompts_fingerprint(["a", "b"]) != prompts_fingerprint(["a", "c"])
    state = PromptStream(2, seed=0, fingerprint=1).state_dict()
    with pytest.raises(ValueError, match="fingerprint=1, but this run has fingerprint=2"):
        PromptStream(2, seed=0, fingerprint=2).load_state_dict(state)


def test_fingerprint_looks_at_evenly_spaced_prompts_only():
    prompts = [f"prompt {i}" for i in range(256)]
    changed = list(prompts)
    changed[1] = "another"  # 0, 4, 8, ... are looked at
    assert prompts_fingerprint(changed) == prompts_fingerprint(prompts)
    changed[4] = "another"
    assert prompts_fingerprint(changed) != prompts_fingerprint(prompts)
