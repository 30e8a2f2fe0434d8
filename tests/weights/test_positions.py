"""Positional embeddings for another grid."""

import jax
import numpy as np
import pytest

from cloob_jax.weights import positions


def cubic(x):
    """The convolution kernel of Keys (1981), a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resampling(old, new):
    """Rows of weights; pixel centres at half integers, widened when it shrinks."""
    scale = max(old / new, 1)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = cubic((centres[:, None] - np.arange(old)[None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("old, new", [(7, 10), (14, 7), (24, 16), (1, 3)])
@pytest.mark.parametrize("pool", [False, True])
def test_the_grid_is_interpolated_and_the_first_row_kept(old, new, pool):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(old * old + 1, 5)).astype(np.float32)
    leaf = {"positional_embedding": table}
    params = {
        "visual": {"attnpool": leaf} if pool else leaf,
        "text": {"positional_embedding": np.ones((9, 2), np.float32)},
    }
    wanted = jax.ShapeDtypeStruct((new * new + 1, 5), np.float32)
    abstract = {
        "visual": {"attnpool": {"positional_embedding": wanted}}
        if pool
        else {"positional_embedding": wanted},
        "text": {"positional_embedding": jax.ShapeDtypeStruct((9, 2), np.float32)},
    }
    found = positions.resize(params, abstract)
    inner = found["visual"]["attnpool"] if pool else found["visual"]
    rows = resampling(old, new)
    grid = table[1:].reshape(old, old, 5).astype(np.float64)
    expected = np.einsum("io,jp,opd->ijd", rows, rows, grid).reshape(-1, 5)
    np.testing.assert_array_equal(inner["positional_embedding"][0], table[0])
    np.testing.assert_allclose(
        inner["positional_embedding"][1:], expected, rtol=1e-4, atol=1e-5
    )
    assert (
        found["text"]["positional_embedding"] is params["text"]["positional_embedding"]
    )
