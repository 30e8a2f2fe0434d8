"""Figures of merit: pure functions of scores and labels."""

import numpy as np
from jaxtyping import Bool, Float, Int

_ROWS = 1024  # of a matrix of scores at a time


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


def match_ranks(
    queries: Float[np.ndarray, "q d"],
    candidates: Float[np.ndarray, "c d"],
    query_groups: Int[np.ndarray, " q"],
    candidate_groups: Int[np.ndarray, " c"],
) -> Int[np.ndarray, " q"]:
    """How many wrong candidates each query ranks before its best right one: 0 is best.

    Right is every candidate of the query's group, as all captions of an image are; so
    R@k, any of them among the first k, is the share of ranks below k. A tie counts
    against the query, and so does NaN.

    Args:
      queries: unit vectors.
      candidates: unit vectors; never all products with `queries` are held at once.
      query_groups: such as the image that a caption is of.
      candidate_groups: each of `query_groups` is among them.
    """
    ranks = []
    for first in range(0, len(queries), _ROWS):
        scores = queries[first : first + _ROWS] @ candidates.T
        groups = query_groups[first : first + _ROWS]
        is_right = groups[:, None] == candidate_groups[None, :]
        best = np.where(is_right, scores, -np.inf).max(axis=1, keepdims=True)
        # Not `scores >= best`, which NaN would fail.
        ranks.append(np.sum(~(scores < best) & ~is_right, axis=1))
    return np.concatenate(ranks)


def interval(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """The middle 95 % of a mean over as many examples, drawn again with replacement.

    The percentile bootstrap (Efron 1979); always the same draws.

    Args:
      values: of each example, such as whether it was found.
      groups: the mean is that of the groups' means, as in a recall averaged over
        classes, and examples are drawn within their group; None: all are one.
      num_resamples: how often all are drawn again.
    """
    rng = np.random.default_rng(0)
    groups = np.zeros(len(values), np.int64) if groups is None else groups
    names = np.unique(groups)
    means = np.zeros(num_resamples)
    for name in names:
        found, counts = np.unique(values[groups == name], return_counts=True)
        size = counts.sum()
        # How often each value that there is comes up; few, where values are hits.
        drawn = rng.multinomial(size, counts / size, num_resamples)
        means += drawn @ found.astype(np.float64) / size / len(names)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
