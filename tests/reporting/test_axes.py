"""Places, ticks and numbers, against ones worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloob_jax.reporting import axes
from cloob_jax.reporting.axes import LARGEST, Axis

_SIZES = st.floats(-LARGEST, LARGEST, exclude_min=True, exclude_max=True)


def test_places():
    places = Axis(10.0, 30.0).place(np.array([10.0, 15.0, 30.0, np.nan]))
    np.testing.assert_allclose(places, [0, 0.25, 1, np.nan])
    places = Axis(0.01, 100.0, log=True).place(np.array([0.1, 1.0, 0.0, -1.0]))
    np.testing.assert_allclose(places, [0.25, 0.5, np.nan, np.nan])


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis(0.0, 300.0), ["0", "100", "200", "300"]),
        (Axis(-0.2, 0.9), ["0", "0.5"]),
        (Axis(61.6, 63.1), ["62.0", "62.5", "63.0"]),
        (Axis(0.0, 1e6), ["0", "0.5M", "1.0M"]),
        (Axis(0.0, 4e9), ["0", "2G", "4G"]),
        (Axis(0.0, 9600.0), ["0", "5000"]),
        (Axis(0.0, 5e-4), ["0", "2e-4", "4e-4"]),
        (Axis(0.0, 0.31, percent=True), ["0 %", "20 %"]),
        (Axis(0.009, 1100.0, log=True), ["0.01", "1", "100"]),
        (Axis(0.04, 0.6, log=True), ["0.05", "0.1", "0.2", "0.5"]),
        (Axis(0.9, 11.0, log=True), ["1", "2", "5", "10"]),
        (Axis(5.1, 5.9, log=True), ["5.5"]),
        (Axis(1e-8, 1.0, log=True), ["1e-8", "1e-5", "0.01"]),
    ],
)
def test_ticks(axis, labels):
    assert [label for _, label in axis.ticks(3)] == labels


def test_an_axis_has_a_margin_and_is_logarithmic_where_asked():
    assert axes.fit(np.array([0.0, 10.0])) == Axis(-0.5, 10.5)
    assert axes.fit(np.array([1.0, 60.0]), None).log
    assert not axes.fit(np.array([1.0, 40.0]), None).log
    assert not axes.fit(np.array([0.0, 60.0]), None).log
    fitted = axes.fit(np.array([1.0, 100.0]), True, margin=0.5)
    assert (fitted.low, fitted.high) == pytest.approx((0.1, 1000))
    # All the same: in the middle.
    assert axes.fit(np.array([30.0])) == Axis(27.0, 33.0)
    assert axes.fit(np.array([0.0, 0.0]), percent=True).high == 0.01


@settings(max_examples=50)
@example([5e-324, 1.0], None)
@given(st.lists(_SIZES, min_size=1, max_size=5), st.sampled_from([None, False]))
def test_whatever_is_measured_fits(values, log):
    axis = axes.fit(np.array(values), log)
    assert axis.low < axis.high
    places = axis.place(np.array(values))
    assert (places >= 0).all() and (places <= 1).all()
    ticks = axis.ticks(5)
    assert len(ticks) <= 20
    for value, label in ticks:
        assert math.isfinite(value) and label
    for value in values:
        assert axes.number(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.228912, "0.2289"),
        (63.06249, "63.06"),
        (0.0, "0"),
        (30.0, "30"),
        (11914.3, "11914"),
        (1.234e-5, "1.23e-5"),
        (-2e-7, "-2e-7"),
        (1e6, "1e6"),
        (float("nan"), "nan"),
    ],
)
def test_numbers(value, expected):
    assert axes.number(value) == expected


def test_shares_are_told_in_percent():
    assert axes.number(0.37012, percent=True) == "37.0 %"
