"""Figures of merit against matrices small enough to read."""

import numpy as np
import pytest

from cloob_jax import metrics

_SCORES = np.array(
    [
        [0.9, 0.1, 0.0, 0.2],  # label 0 is first
        [0.3, 0.2, 0.1, 0.4],  # label 1 is third
        [0.5, 0.5, 0.5, 0.5],  # label 2 ties with all: last
        [0.0, 0.7, 0.6, 0.1],  # label 2 is second
    ]
)
_LABELS = np.array([0, 1, 2, 2])


@pytest.mark.parametrize(
    ("k", "accuracy"), [(1, 1 / 4), (2, 2 / 4), (3, 3 / 4), (4, 1)]
)
def test_top_k(k, accuracy):
    assert metrics.mean(metrics.top_k_hits(_SCORES, _LABELS, k)) == accuracy


def test_a_mean_over_groups_weighs_them_alike():
    labels = np.array([3, 0, 0, 0, 0])
    hits = np.array([0.0, 1, 1, 1, 0])
    assert metrics.mean(hits, labels) == (3 / 4 + 0) / 2
    names, means = metrics.group_means(hits, labels)
    assert names.tolist() == [0, 3] and means.tolist() == [3 / 4, 0]


def test_scores_that_are_not_numbers_are_wrong():
    scores, labels = np.full((4, 3), np.nan), np.array([0, 1, 2, 0])
    assert not metrics.top_k_hits(scores, labels, 1).any()


def test_any_caption_of_an_image_counts(monkeypatch):
    monkeypatch.setattr(metrics, "_ROWS", 2)
    images = np.eye(3)
    captions = np.array(
        [
            [0.1, 0.9, 0.0],  # of image 0, nearer to image 1
            [0.8, 0.0, 0.1],  # of image 0
            [0.2, 0.5, 0.9],  # of image 1, nearer to image 2
            [0.9, 0.0, 0.3],  # of image 2, nearer to image 0
        ]
    )
    owners = np.array([0, 0, 1, 2])
    to_captions = metrics.match_ranks(images, captions, np.arange(3), owners)
    # Image 0: caption 3 is before its best, caption 1. Image 1: caption 0 is before
    # its only one. Image 2: caption 2.
    assert to_captions.tolist() == [1, 1, 1]
    to_images = metrics.match_ranks(captions, images, owners, np.arange(3))
    assert to_images.tolist() == [1, 0, 1, 1]


def test_ties_and_numbers_that_are_none_count_against_a_query():
    same = np.ones((4, 2))
    ranks = metrics.match_ranks(same, same, np.arange(4), np.arange(4))
    assert ranks.tolist() == [3, 3, 3, 3]
    ranks = metrics.match_ranks(same * np.nan, same, np.arange(4), np.arange(4))
    assert ranks.tolist() == [3, 3, 3, 3]


def test_the_interval_of_a_share_is_the_binomial_one():
    hits = np.arange(2000) < 600
    low, high = metrics.interval(hits)
    deviation = (0.3 * 0.7 / 2000) ** 0.5
    np.testing.assert_allclose(
        [low, high], 0.3 + np.array([-1.96, 1.96]) * deviation, atol=0.1 * deviation
    )


def test_the_interval_of_means_over_classes_draws_within_them():
    # One class is always right: all the spread is of the other, at half its weight.
    groups = np.repeat([0, 1], [50, 400])
    hits = np.concatenate([np.ones(50), np.arange(400) % 2])
    low, high = metrics.interval(hits, groups)
    deviation = 0.5 * (0.25 / 400) ** 0.5
    np.testing.assert_allclose(
        [low, high], 0.75 + np.array([-1.96, 1.96]) * deviation, atol=0.1 * deviation
    )
    assert metrics.interval(np.ones(10)) == (1, 1)


def test_the_interval_of_clusters_draws_them_whole():
    # Of five captions an image all are found or none: as many draws as images.
    images = np.repeat(np.arange(400), 5)
    hits = images % 2 == 0
    low, high = metrics.interval(hits, clusters=images)
    deviation = (0.25 / 400) ** 0.5
    np.testing.assert_allclose(
        [low, high], 0.5 + np.array([-1.96, 1.96]) * deviation, atol=0.1 * deviation
    )
    # Images with more captions weigh more, as in the mean itself.
    images = np.repeat([0, 1], [1, 9])
    found = metrics.interval(images == 1, clusters=images, num_resamples=4000)
    assert found == (0, 1)
