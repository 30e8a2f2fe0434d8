"""Logistic regression against scikit-learn in float64, and the sweep's path."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference

from cloob_jax import probe


def make_data(num_classes, size=301, width=16, separation=0.5, decades=0.0, seed=0):
    """Normal clouds; `decades` between the scales of the features, off the origin."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % num_classes
    centres = separation * rng.normal(size=(num_classes, width))
    features = centres[labels] + rng.normal(size=(size, width))
    scales = np.logspace(-decades / 2, decades / 2, width)
    return ((features + decades) * scales).astype(np.float32), labels


def objective(features, labels, weights, bias, c):
    """scikit-learn's, from the definition; one column for two classes, as it has."""
    scores = features @ weights + bias[None]
    scores -= np.take_along_axis(scores, labels[:, None], axis=1)
    losses = np.logaddexp.reduce(scores, axis=1)
    if weights.shape[1] == 2:
        weights = weights[:, 1:] - weights[:, :1]
    return c * losses.sum() + np.sum(weights**2) / 2


def fit_reference(features, labels, c, tol=1e-10):
    """By Newton's method: scikit-learn's L-BFGS stops early on some scales."""
    model = Reference(C=c, solver="newton-cholesky", tol=tol, max_iter=1000)
    model.fit(features.astype(np.float64), labels)
    return model.coef_.T, model.intercept_


# The numbers of rows do not divide over the eight devices.
@pytest.mark.parametrize("decades", [0.0, 4.0])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_minimises_what_scikit_learn_minimises(num_classes, decades):
    features, labels = make_data(num_classes, decades=decades)
    regression = probe.LogisticRegression(features, labels)
    exact = features.astype(np.float64)
    # For the rounding of the reference; the minimum is the same.
    centred = exact - exact.mean(axis=0, keepdims=True)
    for c in (1e-6, 1e-3, 1.0, 1e3, 1e6):
        weights, bias = fit_reference(centred, labels, c)
        if num_classes == 2:
            weights, bias = weights * [[-0.5, 0.5]], bias * [-0.5, 0.5]
        least = objective(centred, labels, weights, bias, c)
        found = regression.fit(c)
        value = objective(exact, labels, found.weights, found.bias, c)
        assert abs(value / least - 1) < 1e-5, c
        assert found.objective * c * len(labels) == pytest.approx(least, rel=1e-5)
        ours, theirs = found.scores(exact), centred @ weights + bias[None]
        best = np.sort(theirs, axis=1)
        is_clear = best[:, -1] - best[:, -2] > 1e-3 * np.ptp(theirs)
        same = ours.argmax(axis=1) == theirs.argmax(axis=1)
        assert is_clear.mean() > 0.9 and same[is_clear].all(), c
        assert (found.predictions == ours.argmax(axis=1)).mean() > 0.99


def test_separated_classes_at_a_strength_that_leaves_nothing_of_the_loss():
    features, labels = make_data(10, separation=3.0)
    expected = fit_reference(features, labels, 1e4, tol=1e-11)
    least = objective(features, labels, *expected, 1e4)
    found = probe.LogisticRegression(features, labels).fit(1e4)
    value = objective(features, labels, found.weights, found.bias, 1e4)
    assert least / 1e4 / len(labels) < 1e-5, "they are not separated"
    assert abs(value / least - 1) < 1e-5 and found.num_steps < 1000


def test_rows_left_out_have_no_part_in_a_fit_but_are_predicted():
    features, labels = make_data(10)
    rows = np.arange(len(labels)) % 4 > 0
    weights, bias = fit_reference(features[rows], labels[rows], 0.1)
    found = probe.LogisticRegression(features, labels).fit(0.1, rows)
    np.testing.assert_allclose(found.weights, weights, atol=1e-3)
    expected = (features @ weights + bias[None]).argmax(axis=1)
    np.testing.assert_array_equal(found.predictions, expected)


def test_constant_features_are_no_obstacle():
    features, labels = make_data(10)
    features[:, 2:5] = 7.0
    weights, bias = fit_reference(features, labels, 1e6)
    found = probe.LogisticRegression(features, labels).fit(1e6)
    least = objective(features, labels, weights, bias, 1e6)
    assert found.objective * 1e6 * len(labels) == pytest.approx(least, rel=1e-5)
    # Of nothing but constants, the shares of the classes are learnt: 31 of class 0.
    flat = np.ones_like(features)
    scores = probe.LogisticRegression(flat, labels).fit(1.0).scores(flat[:1])[0]
    np.testing.assert_allclose(np.exp(scores[0] - scores[1:]), 31 / 30, rtol=1e-4)


def test_the_sweep_halves_the_interval_around_the_peak():
    visited = []

    def validate(c):
        visited.append(round(8 * (np.log10(c) + 6)))
        return -abs(visited[-1] - 37.0)

    c, accuracy = probe.sweep(validate)
    assert sorted(visited[:7]) == [0, 16, 32, 48, 64, 80, 96]
    # Around 32: 24 and 40; around 40: 36 and 44; around 36: 34 and 38; then 35 and 37.
    halves = [visited[7:9], visited[9:11], visited[11:13], visited[13:]]
    expected = [[24, 40], [36, 44], [34, 38], [35, 37]]
    assert list(map(sorted, halves)) == expected
    assert c == pytest.approx(10 ** (37 / 8 - 6)) and accuracy == 0


@pytest.mark.parametrize(("direction", "c"), [(-1, 1e-6), (0, 1e-6), (1, 1e6)])
def test_the_sweep_stays_within_its_ends_and_prefers_the_penalty(direction, c):
    assert probe.sweep(lambda c: direction * c)[0] == pytest.approx(c)
