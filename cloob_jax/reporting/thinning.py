"""Fewer points that look the same: what a small picture of a long run needs."""

import numpy as np
from jaxtyping import Float, Int

_FEW = 200  # values: as many can be looked at one by one
_WINDOWS = 50  # of the smoothing, in a whole curve


def keep(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], most: int
) -> Int[np.ndarray, " kept"]:
    """Which points to keep: in equal parts of the x axis, the lowest and the highest.

    So no extreme is lost, however short. Kept besides are the first and last point, and
    of a part without any number (NaN) one point, so that gaps stay gaps.

    Args:
      x: ascending.
      y: NaN where there is a gap.
      most: about as many points as may be kept.
    """
    if len(x) <= most:
        return np.arange(len(x))
    edges = np.linspace(x[0], x[-1], max(most // 2, 1) + 1)[1:-1]
    bounds = [0, *np.searchsorted(x, edges).tolist(), len(x)]
    # Of a part without any number both find its first point.
    low, high = np.where(np.isnan(y), [[np.inf], [-np.inf]], y)
    kept = [0, len(x) - 1]
    for start, end in zip(bounds, bounds[1:], strict=False):
        if start < end:
            kept.append(start + int(np.argmin(low[start:end])))
            kept.append(start + int(np.argmax(high[start:end])))
    return np.unique(kept)


def window(count: int) -> int:
    """How many of `count` values a smoothed curve averages; 1: it needs none."""
    return 1 if count <= _FEW else 2 * (count // _WINDOWS // 2) + 1


def smooth(y: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """The mean over a centred window, narrower at the ends; NaN is left out of it.

    Args:
      y: NaN where there is a gap, which stays.
      width: of the window, odd.
    """
    is_there = ~np.isnan(y)
    # Sums of differences from one of the values: sums of large ones lose digits.
    level = y[is_there][0] if is_there.any() else 0.0
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_there, y - level, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_there)])
    middle = np.arange(len(y))
    low = np.maximum(middle - width // 2, 0)
    high = np.minimum(middle + width // 2 + 1, len(y))
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(is_there, means + level, np.nan)
