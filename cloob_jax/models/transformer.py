"""The pre-LayerNorm transformer that both of CLIP's towers share.

Source: `clip/model.py` of github.com/openai/CLIP. Kernels are drawn as there,
which means PyTorch's own defaults wherever that file leaves them alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The approximation `x sigmoid(1.702 x)` with which CLIP was published."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by the error function, as in later open_clip models."""
    return jax.nn.gelu(x, approximate=False)


def torch_kernel() -> Initializer:
    """PyTorch's default for linear and convolution kernels: U(+-fan_in^-0.5)."""
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """PyTorch's default for biases: U(+-fan_in^-0.5), fan_in being the kernel's."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(
            key, shape, dtype, -bound, bound, out_sharding=out_sharding
        )

    return init


class BlockInitializers(NamedTuple):
    """How the kernels of one block are drawn; the biases are the same for all."""

    query_key_value: Initializer
    attention_out: Initializer
    mlp_fc: Initializer
    mlp_proj: Initializer


def torch_block_initializers() -> BlockInitializers:
    """PyTorch's defaults, which CLIP leaves to its vision transformer.

    `torch.nn.MultiheadAttention` draws query, key and value as one Xavier-uniform
    matrix `[3 width, width]`, whose bound is `sqrt(6 / (4 width))`: a scale of 1/2
    on the fan-in of each of the three.
    """
    fused_xavier = nn.initializers.variance_scaling(1 / 2, "fan_in", "uniform")
    return BlockInitializers(
        fused_xavier, torch_kernel(), torch_kernel(), torch_kernel()
    )


def text_block_initializers(width: int, num_layers: int) -> BlockInitializers:
    """CLIP's normal distributions for its text transformer."""
    into_residual = nn.initializers.normal(width**-0.5 * (2 * num_layers) ** -0.5)
    return BlockInitializers(
        query_key_value=nn.initializers.normal(width**-0.5),
        attention_out=into_residual,
        mlp_fc=nn.initializers.normal((2 * width) ** -0.5),
        mlp_proj=into_residual,
    )


def layer_norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    """CLIP's LayerNorm: computed in float32 whatever comes in, returned in `dtype`."""
    return nn.LayerNorm(epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name)


def multi_head_attention(
    queries: Float[Array, "b q d"],
    keys: Float[Array, "b l d"],
    values: Float[Array, "b l d"],
    num_heads: int,
    *,
    is_causal: bool = False,
) -> Float[Array, "b q d"]:
    """Softmax attention over heads that lie side by side in the last axis.

    Logits and softmax are float32 whatever the inputs are.
    """

    def split(x):
        return x.reshape(*x.shape[:2], num_heads, -1)

    attended = jax.nn.dot_product_attention(
        split(queries), split(keys), split(values), is_causal=is_causal
    )
    return attended.reshape(queries.shape)


class Attention(nn.Module):
    """Multi-head self-attention (`attn` in the published weights)."""

    num_heads: int
    is_causal: bool
    initializers: BlockInitializers
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Mix the tokens; the type of the result is `dtype`."""

        def dense(name: str, kernel_init: Initializer) -> nn.Dense:
            return nn.Dense(
                x.shape[-1], dtype=self.dtype, kernel_init=kernel_init, name=name
            )

        attended = multi_head_attention(
            dense("query", self.initializers.query_key_value)(x),
            dense("key", self.initializers.query_key_value)(x),
            dense("value", self.initializers.query_key_value)(x),
            self.num_heads,
            is_causal=self.is_causal,
        )
        return dense("out", self.initializers.attention_out)(attended)


class MLP(nn.Module):
    """Two layers, four times as wide in between (`mlp` in the published weights)."""

    activation: Activation
    initializers: BlockInitializers
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Transform each token by itself; the type of the result is `dtype`."""
        width = x.shape[-1]
        hidden = nn.Dense(
            4 * width,
            dtype=self.dtype,
            kernel_init=self.initializers.mlp_fc,
            bias_init=torch_bias(width),
            name="fc",
        )(x)
        return nn.Dense(
            width,
            dtype=self.dtype,
            kernel_init=self.initializers.mlp_proj,
            bias_init=torch_bias(4 * width),
            name="proj",
        )(self.activation(hidden))


class ResidualAttentionBlock(nn.Module):
    """Attention, then the MLP, each on a normalised copy of the residual stream."""

    num_heads: int
    is_causal: bool
    activation: Activation
    initializers: BlockInitializers
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Add both branches to the residual stream, which stays in `dtype`."""
        attention = Attention(
            self.num_heads,
            self.is_causal,
            self.initializers,
            self.dtype,
            name="attention",
        )
        mlp = MLP(self.activation, self.initializers, self.dtype, name="mlp")
        x = x + attention(layer_norm(self.dtype, "ln_1")(x))
        return x + mlp(layer_norm(self.dtype, "ln_2")(x))


class Transformer(nn.Module):
    """A stack of blocks named `block_0`, `block_1`, ... (`resblocks.0`, ...)."""

    num_layers: int
    num_heads: int
    is_causal: bool
    activation: Activation
    initializers: BlockInitializers
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Run the residual stream through every block."""
        for layer in range(self.num_layers):
            x = ResidualAttentionBlock(
                self.num_heads,
                self.is_causal,
                self.activation,
                self.initializers,
                self.dtype,
                name=f"block_{layer}",
            )(x)
        return x
