"""The encoders of cloob-training, for its published weights alone.

They differ from CLIP's: no norm before the first block nor after the last, projections
with a bias, GELU by tanh, and a text encoder that reads in both directions, is pooled
at its first token, and masks padding on the side of the queries, not of the keys, which
its author marked as wrong. The published weights were trained with that and need it.
Nothing new should be trained so.
Source: `cloob_training/model.py` of github.com/crowsonkb/cloob-training.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cloob_jax.models.transformer import (
    BlockInitializers,
    Compute,
    Transformer,
    tanh_gelu,
)


def _initializers(width: int) -> BlockInitializers:
    return BlockInitializers(*[nn.initializers.normal(width**-0.5)] * 4)


def _transformer(
    width: int, num_heads: int, num_layers: int, compute: Compute
) -> Transformer:
    return Transformer(
        num_layers=num_layers,
        num_heads=num_heads,
        is_causal=False,
        activation=tanh_gelu,
        initializers=_initializers(width),
        compute=compute,
        name="transformer",
    )


class CloobTrainingVision(nn.Module):
    """Normalised images in, one embedding an image out (not normalised)."""

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    num_heads: int
    num_layers: int
    compute: Compute

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b d"]:
        """Encode square images of `image_size` pixels, float32 out."""
        del train
        dtype, patch = self.compute.dtype, (self.patch_size, self.patch_size)
        normal = nn.initializers.normal(self.width**-0.5)
        x = nn.Conv(
            self.width,
            patch,
            strides=patch,
            padding="VALID",
            use_bias=False,
            dtype=dtype,
            name="patch_embedding",
        )(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class_embedding", normal, (self.width,))
        shape = (x.shape[0], 1, self.width)
        tokens = jnp.broadcast_to(token[None, None].astype(dtype), shape)
        x = jnp.concatenate([tokens, x], axis=1)
        positions = self.param("positional_embedding", normal, x.shape[1:])
        x = x + positions[None].astype(dtype)
        x = _transformer(self.width, self.num_heads, self.num_layers, self.compute)(x)
        x = x[:, 0].astype(jnp.float32)
        self.sow("intermediates", "features", x)  # what a linear probe sees
        return nn.Dense(self.embed_dim, name="projection")(x)


class CloobTrainingText(nn.Module):
    """Token ids in, one embedding a text out (not normalised)."""

    embed_dim: int
    context_length: int
    vocabulary_size: int
    width: int
    num_heads: int
    num_layers: int
    end_id: int
    compute: Compute

    @nn.compact
    def __call__(self, texts: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Encode `context_length` ids a text, float32 out; read at the first token."""
        if texts.shape[1] != self.context_length:
            raise ValueError(
                f"texts have {texts.shape[1]} tokens, "
                f"this model takes {self.context_length}"
            )
        ends = (texts == self.end_id).astype(jnp.int32)
        # True up to the first end-of-text token and, should there be more, no further.
        is_text = jnp.cumsum(ends, axis=-1) == ends
        dtype = self.compute.dtype
        normal = nn.initializers.normal(self.width**-0.5)
        x = nn.Embed(
            self.vocabulary_size,
            self.width,
            dtype=dtype,
            embedding_init=normal,
            name="token_embedding",
        )(texts)
        positions = self.param("positional_embedding", normal, x.shape[1:])
        x = x + positions[None].astype(dtype)
        stack = _transformer(self.width, self.num_heads, self.num_layers, self.compute)
        x = stack(x, is_text)
        return nn.Dense(self.embed_dim, name="projection")(x[:, 0].astype(jnp.float32))
