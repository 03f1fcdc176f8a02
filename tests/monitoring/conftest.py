"""Loggers of accelerate need its state, which a trainer makes."""

import pytest
from accelerate import PartialState


@pytest.fixture(autouse=True)
def accelerate_state():
    return PartialState(cpu=True)
