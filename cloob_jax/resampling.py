"""Resizing on the device: bicubic and antialiased, as PIL does it on the host."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8


def resize(
    canvases: UInt8[Array, "b y x c"], boxes: Int[Array, "b 2"], size: int
) -> UInt8[Array, "b size size c"]:
    """Resizes a part of each picture, of any size, to one size.

    Two matrix products a picture: 0.17 GFLOP from 256 to 224 pixels. Like PIL, and
    unlike it, what is between the two products is not rounded to bytes.

    Args:
      canvases: the parts lie in their upper left corners.
      boxes: heights and widths of the parts, in pixels.
      size: of the result, in pixels.
    """
    rows = _weights(boxes[:, 0], canvases.shape[1], size)
    columns = _weights(boxes[:, 1], canvases.shape[2], size)
    pixels = canvases.astype(jnp.float32)
    # Three passes of bfloat16, whose error is far below half a step.
    pixels = jnp.einsum(
        "bsy,byxc->bsxc", rows, pixels, precision=jax.lax.Precision.HIGH
    )
    pixels = jnp.einsum(
        "btx,bsxc->bstc", columns, pixels, precision=jax.lax.Precision.HIGH
    )
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _weights(
    lengths: Int[Array, " b"], whole: int, size: int
) -> Float[Array, "b {size} {whole}"]:
    """What each pixel of a side gives to each of the result's."""
    lengths = lengths[:, None, None]
    scale = lengths / size
    centres = (jnp.arange(size)[None, :, None] + 0.5) * scale
    places = jnp.arange(whole)[None, None] + 0.5
    weights = _cubic((places - centres) / jnp.maximum(scale, 1))
    weights = jnp.where(places < lengths, weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def _cubic(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Keys's cubic convolution (1981, a = -1/2), PIL's bicubic."""
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))
