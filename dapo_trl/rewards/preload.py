"""Imported once by the process that workers are forked from, so that each of them starts with everything loaded."""

from . import host
from .worker import self_test


__all__ = ["host"]

self_test()
