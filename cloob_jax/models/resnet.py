"""CLIP's modified residual network.

Three stem convolutions and an average pool in place of one and a max pool, average
pools in front of the convolutions that stride (anti-aliasing), and attention in
place of the last average pool.
Source: `ModifiedResNet` in `clip/model.py` of github.com/openai/CLIP.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cloob_jax.models.batch_norm import BatchNorm
from cloob_jax.models.transformer import (
    Compute,
    multi_head_attention,
    rematerialised,
    torch_bias,
    torch_kernel,
)

EXPANSION = 4
# The stem halves twice, three of the four stages halve once.
TOTAL_STRIDE = 32


def convolution(
    features: int, kernel: int, dtype: DTypeLike, name: str, stride: int = 1
) -> nn.Conv:
    """A convolution without bias that pads both sides alike, as PyTorch does.

    Flax's "SAME" would pad (0, 1) at stride 2, which shifts the image.
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=kernel // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=torch_kernel(),
        name=name,
    )


def average_pool(x: Float[Array, "b h w c"], stride: int) -> Float[Array, "b i j c"]:
    """The mean of each `stride` x `stride` square; an odd rest is dropped."""
    window = (stride, stride)
    return x if stride == 1 else nn.avg_pool(x, window, strides=window)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    features: int
    stride: int
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b i j e"]:
        """Give `EXPANSION * features` channels at 1/`stride` of the resolution."""

        def norm(name: str, x: Array, scale_init: Initializer) -> Array:
            return BatchNorm(self.bn_groups, self.dtype, scale_init, name=name)(
                x, train
            )

        ones = nn.initializers.ones
        out_features = EXPANSION * self.features
        out = convolution(self.features, 1, self.dtype, "conv1")(x)
        out = nn.relu(norm("bn1", out, ones))
        out = convolution(self.features, 3, self.dtype, "conv2")(out)
        out = nn.relu(norm("bn2", out, ones))
        out = average_pool(out, self.stride)
        out = convolution(out_features, 1, self.dtype, "conv3")(out)
        # A scale of zero lets every block begin as its shortcut.
        out = norm("bn3", out, nn.initializers.zeros)
        if self.stride > 1 or x.shape[-1] != out_features:
            x = average_pool(x, self.stride)
            x = convolution(out_features, 1, self.dtype, "downsample_conv")(x)
            x = norm("downsample_bn", x, ones)
        return nn.relu(out + x)


class AttentionPool(nn.Module):
    """Attention of the mean over all positions to the positions and itself."""

    embed_dim: int
    num_heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """Pool a map of features into one embedding, float32 out."""
        width = x.shape[-1]
        normal = nn.initializers.normal(width**-0.5)

        def dense(name: str, features: int, dtype: DTypeLike) -> nn.Dense:
            return nn.Dense(
                features,
                dtype=dtype,
                kernel_init=normal,
                bias_init=torch_bias(width),
                name=name,
            )

        x = x.reshape(x.shape[0], -1, width)
        x = jnp.concatenate([jnp.mean(x, axis=1, keepdims=True), x], axis=1)
        positions = self.param("positional_embedding", normal, x.shape[1:])
        x = x + positions[None].astype(self.dtype)
        pooled = multi_head_attention(
            dense("query", width, self.dtype)(x[:, :1]),
            dense("key", width, self.dtype)(x),
            dense("value", width, self.dtype)(x),
            self.num_heads,
        )
        # Float32 for the reason given in the text encoder.
        return dense("out", self.embed_dim, jnp.float32)(pooled[:, 0])


class ModifiedResNet(nn.Module):
    """Normalised images in, one embedding an image out (not normalised).

    `layers` counts the blocks of the four stages, `width` the channels of the stem.
    """

    embed_dim: int
    image_size: int
    layers: tuple[int, ...]
    width: int
    bn_groups: int
    compute: Compute

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b d"]:
        """Encode square images of `image_size` pixels, float32 out.

        `train` uses and updates BatchNorm's statistics, see `BatchNorm`.
        """
        dtype = self.compute.dtype
        x = self.compute.place(images.astype(dtype))
        stem = ((self.width // 2, 2), (self.width // 2, 1), (self.width, 1))
        for index, (features, stride) in enumerate(stem, start=1):
            x = convolution(features, 3, dtype, f"conv{index}", stride)(x)
            x = BatchNorm(self.bn_groups, dtype, name=f"bn{index}")(x, train)
            x = nn.relu(x)
        x = average_pool(x, 2)
        bottleneck = rematerialised(Bottleneck, self.compute.remat, static_argnums=(2,))
        for stage, num_blocks in enumerate(self.layers):
            for block in range(num_blocks):
                x = self.compute.place(x)
                x = bottleneck(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bn_groups=self.bn_groups,
                    dtype=dtype,
                    name=f"layer{stage + 1}_{block}",
                )(x, train)
        x = AttentionPool(
            self.embed_dim,
            num_heads=x.shape[-1] // 64,
            dtype=dtype,
            name="attnpool",
        )(x)
        self.sow("intermediates", "features", x)  # what a linear probe sees
        return x
