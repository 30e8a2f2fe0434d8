"""Figures of embeddings, by laws and by sums written out."""

import math

import numpy as np
import pytest

from cloob_jax import geometry


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(geometry, "_ROWS", 7)


def points(count, width, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_spectrum_is_that_of_the_covariance():
    # Coordinates drawn apart, with variances 9, 4 and 1 and another mean each.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 3)) * [1, 3, 2] + [5, -2, 7]
    found = geometry.spectrum(rows)
    np.testing.assert_allclose(found, [9, 4, 1], rtol=0.05)
    np.testing.assert_allclose(found.sum(), rows.var(axis=0).sum())


@pytest.mark.parametrize(
    ("eigenvalues", "count", "rank"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4, 4.0),
        ([2.0, 0.0, 0.0], 1, 1.0),
        ([98.0, 1.0, 0.5, 0.5], 2, None),
        ([0.0, 0.0], 0, 0.0),
        ([0.5, 0.25, 0.25], 3, 2**1.5),  # an entropy of 1.5 bits
    ],
)
def test_effective_eigenvalues(eigenvalues, count, rank):
    eigenvalues = np.array(eigenvalues)
    assert geometry.count_for_share(eigenvalues) == count
    if rank is not None:
        assert geometry.effective_rank(eigenvalues) == pytest.approx(rank)


def test_ajne_is_a_quarter_of_points_spread_evenly_and_of_n_in_one_place():
    evenly = np.mean([geometry.ajne(points(200, 16, seed)) for seed in range(20)])
    assert evenly == pytest.approx(0.25, abs=0.02)
    one_place = np.repeat(points(1, 16), 60, axis=0)
    assert geometry.ajne(one_place) == pytest.approx(60 / 4, rel=1e-6)
    # Two opposite points are as far apart as can be: 2/4 - pi / (2 pi).
    assert geometry.ajne(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(0)


def test_ajne_by_its_sum():
    rows = points(23, 5)
    pairs = [(i, j) for i in range(23) for j in range(i + 1, 23)]
    angles = sum(math.acos(rows[i] @ rows[j]) for i, j in pairs)
    assert geometry.ajne(rows) == pytest.approx(23 / 4 - angles / (23 * math.pi))


def test_the_closest_of_the_others():
    images, texts = points(17, 4), points(17, 4, 1)
    products = images @ texts.T
    np.fill_diagonal(products, -2)
    by_image, by_text = geometry.closest_others(images, texts)
    np.testing.assert_allclose(by_image, products.max(axis=1))
    np.testing.assert_allclose(by_text, products.max(axis=0))
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert [side.tolist() for side in geometry.closest_others(opposite, opposite)] == [
        [-1, -1],
        [-1, -1],
    ]


def test_the_gap_between_two_sides():
    images = points(50, 8)
    texts = images + np.eye(8)[0] * 0.3
    assert geometry.modality_gap(images, texts) == pytest.approx(0.3)
    assert geometry.modality_gap(images, images) == 0


def test_how_many_patterns_are_mixed():
    stored = np.eye(9)
    # At 0 all alike; then one weight e^b of 8 more of 1.
    np.testing.assert_allclose(
        geometry.retrieval_entropy(stored, stored, 0.0), math.log(9)
    )
    own = math.exp(3) / (math.exp(3) + 8)
    other = (1 - own) / 8
    expected = -own * math.log(own) - 8 * other * math.log(other)
    found = geometry.retrieval_entropy(stored, stored, 3.0)
    np.testing.assert_allclose(found, expected)
    assert geometry.retrieval_entropy(stored, stored, 1e5).max() < 1e-12
