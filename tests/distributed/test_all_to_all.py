"""Objects between processes: every object arrives once, ordered by sender."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dapo_trl.distributed.all_to_all import DisagreementError, all_to_all, assert_agreement, pack, unpack


NUM_PROCESSES = 3


def outgoing_of(sender: int) -> list[list]:
    """Unequal numbers of objects for each process, some of them none; objects of unequal size."""
    numbers = [[1, 1, 2], [2, 2, 3], [2, 0, 1]][sender]
    return [
        [(sender, receiver, number, torch.full((number * 100,), float(sender))) for number in range(count)]
        for receiver, count in enumerate(numbers)
    ]


def assert_exchanged(process: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=process, world_size=NUM_PROCESSES)

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(tensor) for _ in range(NUM_PROCESSES)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    accelerator = SimpleNamespace(
        process_index=process, num_processes=NUM_PROCESSES, device=torch.device("cpu"), gather=gather
    )
    incoming = all_to_all(outgoing_of(process), accelerator)
    expected = [item for sender in range(NUM_PROCESSES) for item in outgoing_of(sender)[process]]
    assert [item[:3] for item in incoming] == [item[:3] for item in expected]
    assert all(torch.equal(ours[3], theirs[3]) for ours, theirs in zip(incoming, expected, strict=True))
    assert all_to_all([[] for _ in range(NUM_PROCESSES)], accelerator) == []

    assert_agreement({"round": 1, "prompts": 8}, accelerator)
    with pytest.raises(DisagreementError, match=r"\{'prompts': \[8, 9, 10\]\}"):
        assert_agreement({"round": 1, "prompts": 8 + process}, accelerator)
    dist.destroy_process_group()


def test_three_processes(tmp_path):
    mp.spawn(assert_exchanged, args=(os.fspath(tmp_path / "rendezvous"),), nprocs=NUM_PROCESSES)


def test_one_process_keeps_its_objects_as_they_are():
    item = object()
    alone = SimpleNamespace(process_index=0, num_processes=1)
    assert all_to_all([[item]], alone) == [item]
    assert_agreement({"round": 1}, alone)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(2, 3),
        torch.tensor(0.5),
        torch.tensor([True, False]),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.empty(0),
        torch.arange(6.0)[::2],
    ],
)
def test_tensors_arrive_as_they_were(tensor):
    blobs = pack([[], [("row", {"values": tensor})]], rank=0)
    ((name, row),) = unpack([torch.frombuffer(bytearray(blob), dtype=torch.uint8) for blob in blobs[1:]], 1, [])
    assert name == "row"
    assert row["values"].dtype == tensor.dtype
    assert torch.equal(row["values"], tensor)
    row["values"].zero_()  # it may be written to
