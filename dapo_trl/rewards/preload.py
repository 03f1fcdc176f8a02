"""Imported once by the process that workers are forked from, so that each of them starts with everything loaded."""

from . import host
from .worker import self_test


__all__ = ["host"]  # what a worker is sent names it

self_test()
