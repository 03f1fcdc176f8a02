"""The random state of this process, to be put back."""

import random
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """State of the generators of Python, NumPy, and torch on the CPU and on this process's accelerator."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.accelerator.is_available():
        state["accelerator"] = torch.get_device_module().get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Puts back what [`get_random_state`] returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "accelerator" in state:
        torch.get_device_module().set_rng_state(state["accelerator"])
