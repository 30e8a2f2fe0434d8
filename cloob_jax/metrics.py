"""Figures of merit: pure functions of scores and labels."""

import numpy as np
from jaxtyping import Float, Int


def top_k_accuracy(
    scores: Float[np.ndarray, "b classes"], labels: Int[np.ndarray, " b"], k: int
) -> float:
    """Share of rows whose label is among the `k` highest scores.

    A tie counts against the label, and so does NaN: scores that say nothing are not
    right by accident.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    # Not `scores >= own`, which NaN would fail. Its own score is taken off.
    rank = (~(scores < own)).sum(axis=1) - 1
    return float((rank < k).mean())


def mean_per_class_recall(
    predictions: Int[np.ndarray, " b"], labels: Int[np.ndarray, " b"]
) -> float:
    """Recall of each class that occurs, averaged with equal weights."""
    recalls = [(predictions[labels == c] == c).mean() for c in np.unique(labels)]
    return float(np.mean(recalls))
