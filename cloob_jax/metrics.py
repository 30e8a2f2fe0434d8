"""Figures of merit: pure functions of scores and labels."""

import numpy as np
from jaxtyping import Bool, Float, Int

_ROWS = 1024  # of a matrix of scores at a time


def top_k_hits(
    scores: Float[np.ndarray, "b classes"], labels: Int[np.ndarray, " b"], k: int
) -> Bool[np.ndarray, " b"]:
    """Which rows have their label among their `k` highest scores.

    A tie counts against the label, and so does NaN: scores that say nothing are not
    right by accident.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    # Not `scores >= own`, which NaN would fail. Its own score is taken off.
    rank = (~(scores < own)).sum(axis=1) - 1
    return rank < k


def mean(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
) -> float:
    """The mean, or that of the groups' means: of hits by class, the mean recall."""
    if groups is None:
        return float(np.mean(values))
    _, means = group_means(values, groups)
    return float(np.mean(means))


def group_means(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " g"], Float[np.ndarray, " g"]]:
    """The groups that occur, and the mean of each."""
    names, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return names, np.bincount(members, values) / sizes


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
    clusters: Int[np.ndarray, " n"] | None = None,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """The middle 95 % of a mean over as many examples, drawn again with replacement.

    The percentile bootstrap (Efron 1979); always the same draws.

    Args:
      values: of each example, such as whether it was found.
      groups: the mean is that of the groups' means, as in a recall averaged over
        classes, and examples are drawn within their group; None: all are one.
      clusters: examples that are drawn together, such as the captions of an image,
        since they are not independent; None: each alone. Not with groups.
      num_resamples: how often all are drawn again.
    """
    rng = np.random.default_rng(0)
    sums, sizes = values.astype(np.float64), np.ones(len(values))
    if clusters is not None:
        _, members = np.unique(clusters, return_inverse=True)
        sums = np.bincount(members, sums).astype(np.float64)
        sizes = np.bincount(members).astype(np.float64)
    pairs = np.stack([sums, sizes], axis=1)
    names = [None] if groups is None else np.unique(groups)
    means = np.zeros(num_resamples)
    for name in names:
        rows = pairs if groups is None else pairs[groups == name]
        found, counts = np.unique(rows, axis=0, return_counts=True)
        # How often each row that there is comes up; few differ, where values are hits.
        shares = counts / counts.sum()
        drawn = rng.multinomial(counts.sum(), shares, num_resamples) @ found
        means += drawn[:, 0] / drawn[:, 1] / len(names)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
