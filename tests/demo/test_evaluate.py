"""Intervals against values worked by hand."""

import pytest

from demo.evaluate import gain_interval, wilson_interval


def test_wilson_interval_known_values():
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = wilson_interval(0, 10)
    assert (low, high) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_gain_interval_is_paired():
    before, after = [True, False, False, False], [True, True, True, False]
    # Gains 0, 1, 1, 0: mean 0.5, sample deviation 0.57735, half-width 1.96 * 0.57735 / 2.
    assert gain_interval(before, after) == pytest.approx((0.5 - 0.56580, 0.5 + 0.56580), abs=1e-4)
    assert gain_interval(before, before) == (0.0, 0.0)
