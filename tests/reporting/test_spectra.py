"""Spectra as shares of their sum."""

import re
from pathlib import Path

import numpy as np

from cloob_jax.reporting import spectra
from cloob_jax.reporting.reading import Run


def test_shares_of_the_sum_without_what_is_noise():
    values = np.array([3.0, 1.0, 1e-12, 0.0])
    runs = [
        Run("a", Path(), spectra={("coco", "image"): (7, values)}),
        Run("b", Path()),
    ]
    page = spectra.draw(runs)
    assert page.count("<figure") == 1 and "coco: image" in page
    limits = re.search(r'data-y="(\S+) (\S+)"', page).groups()
    ratio = 3**0.05
    np.testing.assert_allclose(
        [float(limit) for limit in limits], [0.25 / ratio, 0.75 * ratio]
    )
    assert "<b>step 7</b>" in page and "finite" not in page


def test_without_spectra_there_is_nothing():
    assert spectra.draw([Run("a", Path())]) == ""
