"""Fewer points, the same picture."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloob_jax.reporting import thinning

_VALUES = st.lists(
    st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), min_size=1, max_size=300
)


@settings(max_examples=50, deadline=None)
@given(_VALUES, st.integers(2, 40))
def test_extremes_and_ends_are_kept_and_the_rest_is_few(values, most):
    y = np.array(values)
    x = np.cumsum(1.0 + np.arange(len(y)) % 3)
    kept = thinning.keep(x, y, most)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0 and kept[-1] == len(y) - 1
    # Two of each part, and the ends.
    assert len(kept) <= max(most, 2) + 2
    if not np.isnan(y).all():
        assert np.nanmax(y[kept]) == np.nanmax(y)
        assert np.nanmin(y[kept]) == np.nanmin(y)


def test_a_spike_of_one_step_in_a_million_is_kept():
    y = np.zeros(1_000_000)
    y[314_159] = 7
    kept = thinning.keep(np.arange(1e6), y, 400)
    assert 314_159 in kept and len(kept) < 410


def test_a_gap_stays_a_gap():
    y = np.ones(1000)
    y[300:500] = np.nan
    kept = thinning.keep(np.arange(1000.0), y, 100)
    assert np.isnan(y[kept]).any()
    assert not np.isnan(y[kept][kept < 300]).any()


def test_the_mean_of_a_window_against_one_taken_by_hand():
    y = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 9.0])
    expected = [1.5, 1.5, np.nan, 4.5, 6.0, 7.0]
    np.testing.assert_allclose(thinning.smooth(y, 3), expected)
    np.testing.assert_allclose(thinning.smooth(y, 1), y)


@settings(max_examples=50, deadline=None)
@given(_VALUES, st.sampled_from([1, 3, 7]))
def test_the_mean_of_a_window_against_a_loop(values, width):
    y = np.array(values)
    half = width // 2
    expected = []
    for i, value in enumerate(y):
        near = y[max(i - half, 0) : i + half + 1]
        expected.append(value if np.isnan(value) else np.nanmean(near))
    # Sums of up to 300 values of a size up to 1e9.
    np.testing.assert_allclose(
        thinning.smooth(y, width), expected, rtol=1e-9, atol=1e-4
    )


def test_large_values_lose_no_digits():
    y = 1e9 + np.tile([0.0, 1e-3], 500)
    np.testing.assert_allclose(thinning.smooth(y, 201) - 1e9, 5e-4, atol=1e-5)


def test_few_values_are_not_smoothed_and_windows_are_odd():
    assert thinning.window(200) == 1
    assert thinning.window(1000) == 21
    assert all(thinning.window(n) % 2 for n in range(1, 3000))
