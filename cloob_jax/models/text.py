"""CLIP's text encoder: a causal transformer, read at the end-of-text token.

Source: `CLIP.encode_text` in `clip/model.py` of github.com/openai/CLIP.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cloob_jax.models.transformer import (
    Activation,
    Compute,
    Transformer,
    layer_norm,
    text_block_initializers,
)


class TextEncoder(nn.Module):
    """Token ids in, one embedding a text out (not normalised)."""

    embed_dim: int
    context_length: int
    vocabulary_size: int
    width: int
    num_heads: int
    num_layers: int
    activation: Activation
    end_id: int
    compute: Compute

    @nn.compact
    def __call__(self, texts: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Encode `context_length` ids a text, float32 out.

        The feature is that of the first `end_id`, the end-of-text token; what follows
        it is padding and, the attention being causal, has no influence. A text
        without that token (one cut off at the end) would be read at its start: the
        tokenizer must keep it.
        """
        if texts.shape[1] != self.context_length:
            raise ValueError(
                f"texts have {texts.shape[1]} tokens, "
                f"this model takes {self.context_length}"
            )
        x = nn.Embed(
            self.vocabulary_size,
            self.width,
            dtype=self.compute.dtype,
            embedding_init=nn.initializers.normal(0.02),
            promote_dtype=functools.partial(_gathered, self.compute.gather),
            name="token_embedding",
        )(texts)
        positions = self.param(
            "positional_embedding",
            nn.initializers.normal(0.01),
            (self.context_length, self.width),
        )
        x = x + positions[None].astype(self.compute.dtype)
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            is_causal=True,
            activation=self.activation,
            initializers=text_block_initializers(self.width, self.num_layers),
            compute=self.compute,
            name="transformer",
        )(x)
        end_of_text = jnp.argmax(texts == self.end_id, axis=-1)
        x = jnp.take_along_axis(x, end_of_text[:, None, None], axis=1)[:, 0]
        # The last norm and matrix are cheap: float32 keeps bfloat16's rounding out
        # of the embeddings, to which the loss is sensitive.
        x = layer_norm(jnp.float32, "ln_final")(x)
        return nn.Dense(
            self.embed_dim,
            use_bias=False,
            kernel_init=nn.initializers.normal(self.width**-0.5),
            name="projection",
        )(x)


def _gathered(
    gather: Callable[[Array], Array],
    table: Array | None,
    *,
    dtype: Any = None,
    inexact: bool = False,
) -> list[Array | None]:
    """In place of Flax's `promote_dtype`: of the narrower type, less is gathered."""
    assert table is not None and not inexact
    return [gather(table.astype(dtype))]
