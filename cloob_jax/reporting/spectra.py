"""Spectra of the embeddings: in how many directions they vary."""

from collections.abc import Sequence

import numpy as np

from cloob_jax.reporting import chart
from cloob_jax.reporting.markup import Html, element, join
from cloob_jax.reporting.reading import Run

_LEAST = 1e-8  # of the largest: below is the noise of float32
_MOST_POINTS = 200


def draw(runs: Sequence[Run]) -> Html:
    """A chart for each data set and encoder; empty where there is nothing."""
    keys = sorted({key for run in runs for key in run.spectra})
    if not keys:
        return Html()
    said = element(
        "p",
        "Eigenvalues of the embeddings' covariance as shares of their sum, the largest "
        "first, at the latest step. The slower a curve falls, the more directions "
        "are used.",
        class_="said",
    )
    figures = [_chart(key, runs) for key in keys]
    return join([said, element("div", *figures, class_="charts")])


def _chart(key: tuple[str, str], runs: Sequence[Run]) -> Html:
    lines = []
    for number, run in enumerate(runs):
        if key in run.spectra:
            step, values = run.spectra[key]
            shares = values / values.sum()
            shares = np.where(shares > _LEAST * shares.max(), shares, np.nan)
            place = np.arange(1.0, len(shares) + 1)
            lines.append(chart.Line(number, run.name, place, shares, f"step {step}"))
    dataset, encoder = key
    return chart.draw(
        f"{dataset}: {encoder}",
        lines,
        "eigenvalue",
        unit="share of the sum",
        log=True,
        most_points=_MOST_POINTS,
    )
