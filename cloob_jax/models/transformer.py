"""The pre-LayerNorm transformer that both of CLIP's towers share.

Source: `clip/model.py` of github.com/openai/CLIP. Kernels are drawn as there,
which means PyTorch's own defaults wherever that file leaves them alone.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

Activation = Callable[[Array], Array]

# What the forward pass keeps for the backward pass; the rest is computed again.
REMAT_POLICIES: dict[str, Any] = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def anywhere(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Leaves it to the compiler where an array lies."""
    return x


class Compute(NamedTuple):
    """How a model is computed; no parameter and no shape depends on it.

    Attributes:
      dtype: of the computations; parameters are float32 always.
      remat: a key of `REMAT_POLICIES`: what a layer keeps for its gradient: all of it,
        the products of activations and weights, or its input alone.
      scan_layers: False compiles every layer of a transformer by itself, which takes
        longer and can run faster.
      attention: of the transformers, `xla` or `cudnn` (flash attention).
      place: takes activations `[b, ...]` of each layer and returns them, constrained
        to lie where their examples do. Without it a compiler that finds parameters
        split over the devices of the batch may split activations in their way.
      gather: takes a table that each example looks its rows up in, and returns it,
        constrained to lie on each device as a whole. Without it what is looked up may
        be gathered instead, of the whole batch.
    """

    dtype: DTypeLike = jnp.bfloat16
    remat: str = "none"
    scan_layers: bool = True
    attention: Literal["xla", "cudnn"] = "xla"
    place: Callable[[Array], Array] = anywhere
    gather: Callable[[Array], Array] = anywhere


def rematerialised(target: Any, remat: str, **options: Any) -> Any:
    """A Flax module, or a function of one, with a policy of what it keeps."""
    if remat == "none":
        return target
    return nn.remat(target, policy=REMAT_POLICIES[remat], **options)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The approximation `x sigmoid(1.702 x)` with which CLIP was published."""
    return x * jax.nn.sigmoid(1.702 * x)


def tanh_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by the hyperbolic tangent, as in the weights of cloob-training."""
    return jax.nn.gelu(x, approximate=True)


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
    mask: Bool[Array, "b q"] | None = None,
    implementation: Literal["xla", "cudnn"] = "xla",
) -> Float[Array, "b q d"]:
    """Softmax attention over heads that lie side by side in the last axis.

    Logits and softmax are float32 whatever the inputs are. A query that `mask` says
    False of gets the mean of all values.
    """

    def split(x):
        return x.reshape(*x.shape[:2], num_heads, -1)

    attended = jax.nn.dot_product_attention(
        split(queries),
        split(keys),
        split(values),
        mask=None if mask is None else mask[:, None, :, None],
        is_causal=is_causal,
        implementation=implementation,
    )
    return attended.reshape(queries.shape)


class Attention(nn.Module):
    """Multi-head self-attention (`attn` in the published weights)."""

    num_heads: int
    is_causal: bool
    initializers: BlockInitializers
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Mix the tokens; the type of the result is `compute.dtype`."""

        def dense(name: str, kernel_init: Initializer) -> nn.Dense:
            return nn.Dense(
                x.shape[-1],
                dtype=self.compute.dtype,
                kernel_init=kernel_init,
                name=name,
            )

        attended = multi_head_attention(
            dense("query", self.initializers.query_key_value)(x),
            dense("key", self.initializers.query_key_value)(x),
            dense("value", self.initializers.query_key_value)(x),
            self.num_heads,
            is_causal=self.is_causal,
            mask=mask,
            implementation=self.compute.attention,
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
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Add both branches to the residual stream, which stays in `compute.dtype`."""
        dtype = self.compute.dtype
        attention = Attention(
            self.num_heads,
            self.is_causal,
            self.initializers,
            self.compute,
            name="attention",
        )
        mlp = MLP(self.activation, self.initializers, dtype, name="mlp")
        x = x + attention(layer_norm(dtype, "ln_1")(x), mask)
        return x + mlp(layer_norm(dtype, "ln_2")(x))


class Transformer(nn.Module):
    """A stack of equal blocks, whose parameters `blocks` have a first axis of layers.

    So they lie in a checkpoint whether the layers are scanned or not.
    """

    num_layers: int
    num_heads: int
    is_causal: bool
    activation: Activation
    initializers: BlockInitializers
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Run the residual stream through every block.

        `mask` is that of `multi_head_attention`, the same in every block.
        """
        blocks = ResidualAttentionBlock(
            self.num_heads,
            self.is_causal,
            self.activation,
            self.initializers,
            self.compute,
            name="blocks",
        )

        def layer(block, x, mask):
            return block(self.compute.place(x), mask), None

        # A scan cannot merge what is computed twice, which prevent_cse guards against.
        scanned = self.compute.scan_layers
        layer = rematerialised(layer, self.compute.remat, prevent_cse=not scanned)
        x, _ = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.num_layers,
            unroll=1 if scanned else self.num_layers,
        )(blocks, x, mask)
        return x
