"""Runs with FSDP2, on two processes."""

from pathlib import Path
from typing import Any

from tests.distributed.scenarios import SCENARIOS, interrupted, not_finite, trained
from tests.distributed.sending import trained_and_sent
from tests.distributed.spread import FSDP2


OF_FSDP = ("two micro-batches, group", "four micro-batches", "straddling groups", "partial", "AdamW")


def run_all(directory: Path) -> dict[str, Any]:
    spread = FSDP2()
    spread.start()
    return {
        **{name: trained(SCENARIOS[name], 2, spread) for name in OF_FSDP},
        "interrupted": interrupted(f"{directory}/fsdp", spread),
        "not finite": not_finite(spread),
        "sent": trained_and_sent(spread),
    }
