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
    assert metrics.top_k_accuracy(_SCORES, _LABELS, k) == accuracy


def test_mean_per_class_recall_weighs_classes_alike():
    labels = np.array([0, 0, 0, 0, 3])
    predictions = np.array([0, 0, 0, 1, 2])
    assert metrics.mean_per_class_recall(predictions, labels) == (3 / 4 + 0) / 2


def test_scores_that_are_not_numbers_are_wrong():
    scores, labels = np.full((4, 3), np.nan), np.array([0, 1, 2, 0])
    assert metrics.top_k_accuracy(scores, labels, 1) == 0
