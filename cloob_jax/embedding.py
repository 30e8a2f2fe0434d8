"""Embedding any number of inputs over all devices: NumPy in, NumPy out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cloob_jax import sharding, step
from cloob_jax.models import DualEncoder

Embed = Callable[[np.ndarray], np.ndarray]
Bind = Callable[[Any, Any], tuple[Embed, Embed]]


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
      rows: images uint8 `[b, h, w, 3]`, texts int32 `[b, l]`.
    """
    rows, whole = sharding.batch_sharding(mesh, chunk), sharding.replicated(mesh)
    images = jax.jit(
        functools.partial(step.embed_images, model=model),
        in_shardings=(params, batch_stats, rows),
        out_shardings=whole,
    )
    texts = jax.jit(
        functools.partial(step.embed_texts, model=model),
        in_shardings=(params, rows),
        out_shardings=whole,
    )

    def in_chunks(function: Callable, inputs: np.ndarray) -> np.ndarray:
        # All chunks have one shape, so that there is one compilation; the padding of
        # the last is cut off again.
        results = [np.zeros((0, model.embed_dim), np.float32)]
        for start in range(0, len(inputs), chunk):
            part = inputs[start : start + chunk]
            padding = [(0, chunk - len(part))] + [(0, 0)] * (inputs.ndim - 1)
            padded = np.pad(part, padding)
            # Each process has them all and places the rows of its own devices.
            placed = jax.make_array_from_callback(
                padded.shape, rows, padded.__getitem__
            )
            results.append(np.asarray(function(placed))[: len(part)])
        return np.concatenate(results)

    def bind(params: Any, batch_stats: Any) -> tuple[Embed, Embed]:
        embed_images = functools.partial(images, params, batch_stats)
        embed_texts = functools.partial(texts, params)
        return (
            functools.partial(in_chunks, embed_images),
            functools.partial(in_chunks, embed_texts),
        )

    return bind
