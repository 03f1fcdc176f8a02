"""Imported once by the process that workers are forked from, so that each of them starts with everything loaded."""

from pebble import ProcessPool

from .worker import self_test


__all__ = ["ProcessPool"]  # named by what a worker is sent

self_test()
