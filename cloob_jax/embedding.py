"""Embedding any number of inputs over all devices: NumPy in, NumPy out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cloob_jax import sharding, step
from cloob_jax.models import DualEncoder

EmbedImages = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
EmbedTexts = Callable[[np.ndarray], np.ndarray]
Bind = Callable[[Any, Any], tuple[EmbedImages, EmbedTexts]]


def build(
    model: DualEncoder, mesh: Mesh, params: Any, batch_stats: Any, chunk: int
) -> Bind:
    """Compiles the two embedding functions of a model, when they are first used.

    Args:
      model: the encoders.
      mesh: of all devices.
      params: their shardings.
      batch_stats: theirs.
      chunk: rows embedded at a time.

    Returns:
      (params, batch_stats) -> (embed_images, embed_texts), which take any number of
      rows: images uint8 `[b, h, w, 3]` to features `[b, f]` and unit vectors `[b, d]`,
      see `step.image_features`; texts int32 `[b, l]` to unit vectors.
    """
    rows, whole = sharding.batch_sharding(mesh, chunk), sharding.replicated(mesh)
    images = jax.jit(
        functools.partial(step.image_features, model=model),
        in_shardings=(params, batch_stats, rows),
        out_shardings=whole,
    )
    texts = jax.jit(
        functools.partial(step.embed_texts, model=model),
        in_shardings=(params, rows),
        out_shardings=whole,
    )

    def in_chunks(function: Callable, inputs: np.ndarray) -> Any:
        # All chunks have one shape, so that there is one compilation; the padding of
        # the last is cut off again.
        results = []
        for start in range(0, max(len(inputs), 1), chunk):
            part = inputs[start : start + chunk]
            padding = [(0, chunk - len(part))] + [(0, 0)] * (inputs.ndim - 1)
            padded = np.pad(part, padding)
            # Each process has them all and places the rows of its own devices.
            placed = jax.make_array_from_callback(
                padded.shape, rows, padded.__getitem__
            )
            results.append(jax.tree.map(np.asarray, function(placed)))
        return jax.tree.map(
            lambda *parts: np.concatenate(parts)[: len(inputs)], *results
        )

    def bind(params: Any, batch_stats: Any) -> tuple[EmbedImages, EmbedTexts]:
        embed_images = functools.partial(images, params, batch_stats)
        embed_texts = functools.partial(texts, params)
        return (
            functools.partial(in_chunks, embed_images),
            functools.partial(in_chunks, embed_texts),
        )

    return bind
