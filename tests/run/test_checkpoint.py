"""The trainer's own part of a checkpoint: compact, checked, written whole or not at all."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dapo_trl
from dapo_trl.batching.micro_batches import Lengths
from dapo_trl.batching.padding import Row
from dapo_trl.batching.rollout import (
    Rollout,
    RolloutPlan,
    check_same_rollouts,
    gather_lengths,
    plan_inputs_from_state,
    restore_rollout,
    rollout_state,
    rows_from_state,
)
from dapo_trl.run.checkpoint import (
    METADATA,
    CheckpointError,
    is_complete,
    last_complete_checkpoint,
    load_state,
    save_metadata,
    save_state,
    state_path,
)


PAD = 0
ALONE = SimpleNamespace(process_index=0, num_processes=1, gather=lambda tensor: tensor)


def scored_batch(num_rows: int, num_prompt: int, num_completion: int) -> dict[str, torch.Tensor]:
    """Rows as TRL returns them; every second one has half as many completion tokens."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(num_rows, num_completion, dtype=torch.long)
    mask[::2, num_completion // 2 :] = 0
    return {
        "prompt_ids": torch.randint(1, 150_000, (num_rows, num_prompt), generator=generator),
        "prompt_mask": torch.ones(num_rows, num_prompt, dtype=torch.long),
        "completion_ids": torch.randint(1, 150_000, (num_rows, num_completion), generator=generator) * mask,
        "completion_mask": mask,
        "old_per_token_logps": torch.randn(num_rows, num_completion, generator=generator) * mask,
        "importance_sampling_ratio": torch.rand(num_rows, 1, generator=generator),
        "advantages": torch.randn(num_rows, generator=generator),
    }


def plan_of(scored: dict[str, torch.Tensor], steps: list[list[int]], num_processes: int = 1) -> RolloutPlan:
    return build_plan(*gather_lengths(scored, ALONE), steps, num_processes)


def build_plan(
    lengths: list[Lengths], trained_tokens: list[int], steps: list[list[int]], num_processes: int = 1
) -> RolloutPlan:
    return RolloutPlan.build(
        lengths,
        trained_tokens,
        steps,
        num_processes=num_processes,
        num_micro_batches=2,
        num_generations=2,
        token_normalization="step",
        is_balanced=True,
        has_equal_rows=False,
    )


def small_rollout() -> Rollout:
    scored = scored_batch(num_rows=4, num_prompt=3, num_completion=6)
    return Rollout.distribute(scored, plan_of(scored, [[3, 0], [1, 2]]), ALONE, PAD)


def assert_same_rows(rows: dict[int, Row], expected: dict[int, Row]) -> None:
    assert sorted(rows) == sorted(expected)
    for number, row in rows.items():
        assert row.keys() == expected[number].keys()
        for name, values in row.items():
            assert values.dtype == expected[number][name].dtype
            assert torch.equal(values, expected[number][name])


# One process's file


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"rollout": None, "numbers": [1, 2], "tensor": torch.arange(3), "nested": {"a": 0.5}}
    save_state(state, str(tmp_path), process=3)
    assert [path.name for path in tmp_path.iterdir()] == ["dapo_state_3.pt"]
    loaded = load_state(str(tmp_path), process=3)
    assert torch.equal(loaded.pop("tensor"), torch.arange(3))
    assert loaded == {"format_version": 1, "rollout": None, "numbers": [1, 2], "nested": {"a": 0.5}}


def test_a_missing_file_is_no_error(tmp_path):
    assert load_state(str(tmp_path), process=0) is None


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    save_state({"step": 1}, str(tmp_path), process=0)

    def breaks_off(state, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(OSError, match="No space left"):
        save_state({"step": 2}, str(tmp_path), process=0)
    assert load_state(str(tmp_path), process=0)["step"] == 1


@pytest.mark.parametrize("num_bytes", [0, 1, 100, -1])
def test_a_cut_off_file_is_an_error(tmp_path, num_bytes):
    save_state({"tensor": torch.arange(1000)}, str(tmp_path), process=0)
    path = state_path(str(tmp_path), process=0)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(CheckpointError, match="(?s)dapo_state_0.pt cannot be read .*resume from an earlier one"):
        load_state(str(tmp_path), process=0)


@pytest.mark.parametrize(
    ("stored", "version"), [({"format_version": 2}, "2"), ({"step": 1}, "None"), ([1, 2], "None")]
)
def test_a_foreign_version_is_an_error(tmp_path, stored, version):
    torch.save(stored, state_path(str(tmp_path), process=0))
    message = f"dapo_state_0.pt has format version {version}, but .* reads 1. Resume with the version that wrote"
    with pytest.raises(CheckpointError, match=message):
        load_state(str(tmp_path), process=0)


def test_other_rollouts_are_an_error():
    check_same_rollouts({"optimizer_steps_per_rollout": 4}, "checkpoint-7", optimizer_steps=4)
    message = r"checkpoint-7 was written with 4 optimizer steps per rollout, but this run has 6 .*Resume with the same"
    with pytest.raises(CheckpointError, match=message):
        check_same_rollouts({"optimizer_steps_per_rollout": 4}, "checkpoint-7", optimizer_steps=6)


# The rollout in use


def test_a_rollout_comes_back_as_it_was(tmp_path):
    rollout = small_rollout()
    save_state({"num_processes": 1, "rollout": rollout_state(rollout)}, str(tmp_path), process=0)
    state = load_state(str(tmp_path), process=0)
    assert_same_rows(rows_from_state(state["rollout"]), rollout.rows)

    plan = build_plan(*plan_inputs_from_state(state["rollout"]))
    assert plan == rollout.plan
    restored = restore_rollout(str(tmp_path), state, plan, process=0)
    assert_same_rows(restored.rows, rollout.rows)
    assert_same_rows({0: restored.padding_row}, {0: rollout.padding_row})


def test_the_file_is_compact_and_loads_without_pickled_objects(tmp_path):
    scored = scored_batch(num_rows=64, num_prompt=100, num_completion=800)
    rollout = Rollout.distribute(scored, plan_of(scored, [list(range(64))]), ALONE, PAD)
    save_state({"rollout": rollout_state(rollout)}, str(tmp_path), process=0)
    num_tokens = 64 * 100 + 32 * 800 + 32 * 400
    path = state_path(str(tmp_path), process=0)
    # 9 bytes per completion token (id 4, mask 1, log-probability 4), 5 per prompt token.
    assert path.stat().st_size < 9 * num_tokens
    torch.load(path, weights_only=True)


def test_rows_are_found_in_the_files_of_another_number_of_processes(tmp_path):
    scored = scored_batch(num_rows=6, num_prompt=3, num_completion=6)
    steps = [[5, 0, 2], [1, 4, 3]]
    whole = Rollout.distribute(scored, plan_of(scored, steps), ALONE, PAD)
    of_three = plan_of(scored, steps, num_processes=3)
    for process in range(3):
        mine = {row: whole.rows[row] for row, owner in of_three.owners().items() if owner == process}
        part = Rollout(of_three, mine, whole.padding_row)
        save_state({"num_processes": 3, "rollout": rollout_state(part)}, str(tmp_path), process)

    state = load_state(str(tmp_path), process=0)
    of_two = build_plan(*plan_inputs_from_state(state["rollout"]), num_processes=2)
    for process in range(2):
        restored = restore_rollout(str(tmp_path), state, of_two, process)
        mine = {row for row, owner in of_two.owners().items() if owner == process}
        assert_same_rows(restored.rows, {row: whole.rows[row] for row in mine})

    state_path(str(tmp_path), process=2).unlink()
    with pytest.raises(CheckpointError, match=r"lacks \d rows of the rollout in use: .* its 3 processes are missing"):
        restore_rollout(str(tmp_path), state, plan_of(scored, steps), process=0)


# Which checkpoint


def write_checkpoint(output_dir: Path, step: int, trainer_state: str | None) -> None:
    checkpoint = output_dir / f"checkpoint-{step}"
    checkpoint.mkdir()
    if trainer_state is not None:
        (checkpoint / "trainer_state.json").write_text(trainer_state)


COMPLETE = json.dumps({"global_step": 1, "log_history": []})


def test_the_last_complete_checkpoint_has_the_highest_number(tmp_path):
    for step in (9, 10, 2):
        write_checkpoint(tmp_path, step, COMPLETE)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "my-checkpoint-99").mkdir()
    assert last_complete_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("trainer_state", [None, "", COMPLETE[:-5], "[]"])
def test_half_written_checkpoints_are_passed_over(tmp_path, trainer_state):
    write_checkpoint(tmp_path, 4, COMPLETE)
    write_checkpoint(tmp_path, 5, trainer_state)
    assert is_complete(tmp_path / "checkpoint-4")
    assert not is_complete(tmp_path / "checkpoint-5")
    assert last_complete_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-4")


def test_no_checkpoint_at_all(tmp_path):
    assert last_complete_checkpoint(str(tmp_path)) is None
    assert last_complete_checkpoint(str(tmp_path / "nowhere")) is None


def test_metadata_names_the_rule_by_which_answers_are_read(tmp_path):
    class Judge:
        answer_rule = "boxed-1"
        thinking_tags = ("<t>", "</t>")

    save_metadata(str(tmp_path), {"judge": Judge(), "length": len}, "{problem} =", {"think": False})
    metadata = json.loads((tmp_path / METADATA).read_text())
    assert metadata == {
        "dapo_trl_version": dapo_trl.__version__,
        "rewards": ["judge", "length"],
        "answer_rules": {"judge": "boxed-1"},
        "thinking_tags": {"judge": ["<t>", "</t>"]},
        "prompt": "{problem} =",
        "chat_template_kwargs": {"think": False},
    }
