"""Shares with their 95 % intervals: as figures, and as cells of a table."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from cloob_jax import metrics

_LOW, _HIGH = "_ci95_low", "_ci95_high"


def share(
    name: str,
    hits: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
    clusters: Int[np.ndarray, " n"] | None = None,
) -> Iterator[tuple[str, float]]:
    """Yields a share and the ends of its interval, see `metrics.interval`."""
    low, high = metrics.interval(hits, groups, clusters)
    yield name, metrics.mean(hits, groups)
    yield name + _LOW, low
    yield name + _HIGH, high


def is_interval(name: str) -> bool:
    """Whether a figure is the end of another's interval."""
    return name.endswith((_LOW, _HIGH))


def cell(figures: Mapping[str, float], name: str) -> str:
    """A share in percent, or - where there is none."""
    return f"{100 * figures[name]:.1f}" if name in figures else "-"


def cell_with_interval(figures: Mapping[str, float], name: str) -> str:
    """A share in percent and its interval: 12.3 (11.0-13.6)."""
    low, high = (cell(figures, name + end) for end in (_LOW, _HIGH))
    return f"{cell(figures, name)} ({low}-{high})"
