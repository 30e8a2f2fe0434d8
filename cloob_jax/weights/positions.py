"""Another image size for the same weights: positional embeddings interpolated."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def resize(params: Any, abstract: Any) -> Any:
    """Fits the image encoder's positional embeddings to another grid.

    The grid of a ViT's patches and of a ResNet's attention pool is interpolated
    bicubically with antialiasing, as open_clip does for ViTs; the first row, the class
    token's or the mean's, is kept.

    Args:
      params: of a model, `visual` and `text` on top.
      abstract: their shapes in the model that is to take them.
    """
    shapes = {path: leaf.shape for path, leaf in jax.tree.leaves_with_path(abstract)}

    def fit(path: tuple, leaf: Any) -> Any:
        is_grid = path[0].key == "visual" and path[-1].key == "positional_embedding"
        if not is_grid or shapes.get(path, leaf.shape) == leaf.shape:
            return leaf
        return _interpolate(np.asarray(leaf), shapes[path][0])

    return jax.tree.map_with_path(fit, params)


def _interpolate(table: np.ndarray, num_rows: int) -> np.ndarray:
    side, new_side = math.isqrt(len(table) - 1), math.isqrt(num_rows - 1)
    grid = table[1:].reshape(side, side, -1)
    shape = (new_side, new_side, grid.shape[-1])
    with jax.default_matmul_precision("highest"):
        resized = jax.image.resize(jnp.asarray(grid), shape, "cubic", antialias=True)
    return np.concatenate([table[:1], np.asarray(resized).reshape(num_rows - 1, -1)])
