"""CLIP's vision transformer.

Source: `VisionTransformer` in `clip/model.py` of github.com/openai/CLIP.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cloob_jax.models.transformer import (
    Activation,
    Compute,
    Transformer,
    layer_norm,
    torch_block_initializers,
    torch_kernel,
)


class VisionTransformer(nn.Module):
    """Normalised images in, one embedding an image out (not normalised)."""

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    num_heads: int
    num_layers: int
    activation: Activation
    compute: Compute

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b d"]:
        """Encode square images of `image_size` pixels, float32 out.

        `train` changes nothing here: there is neither dropout nor BatchNorm.
        """
        del train
        dtype = self.compute.dtype
        x = nn.Conv(
            self.width,
            (self.patch_size, self.patch_size),
            strides=(self.patch_size, self.patch_size),
            padding="VALID",
            use_bias=False,
            dtype=dtype,
            kernel_init=torch_kernel(),
            name="patch_embedding",
        )(images)
        x = x.reshape(x.shape[0], -1, self.width)
        normal = nn.initializers.normal(self.width**-0.5)
        class_token = self.param("class_embedding", normal, (self.width,))
        class_tokens = jnp.broadcast_to(
            class_token[None, None].astype(dtype), (x.shape[0], 1, self.width)
        )
        x = jnp.concatenate([class_tokens, x], axis=1)
        num_tokens = (self.image_size // self.patch_size) ** 2 + 1
        positions = self.param("positional_embedding", normal, (num_tokens, self.width))
        x = layer_norm(dtype, "ln_pre")(x + positions[None].astype(dtype))
        x = Transformer(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            is_causal=False,
            activation=self.activation,
            initializers=torch_block_initializers(),
            compute=self.compute,
            name="transformer",
        )(x)
        # Float32 from here on, for the reason given in the text encoder.
        x = layer_norm(jnp.float32, "ln_post")(x[:, 0])
        self.sow("intermediates", "features", x)  # what a linear probe sees
        return nn.Dense(
            self.embed_dim, use_bias=False, kernel_init=normal, name="projection"
        )(x)
