"""BatchNorm with PyTorch's rules, over groups of the global batch."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-5
# torch.nn.BatchNorm2d calls the complement, 0.1, its momentum.
MOMENTUM = 0.9


class BatchNorm(nn.Module):
    """Normalise each channel by the statistics of its group of the batch.

    The batch is cut into `num_groups` runs of consecutive examples, each with its
    own mean and variance. One group is synchronised BatchNorm; groups of 128 are
    what the CLOOB authors' GPUs normalised over. The groups belong to the global
    batch, so the numbers do not depend on the devices. Where their number is a
    multiple of the devices that share the batch, only the running statistics are
    communicated.

    Differs from `flax.linen.BatchNorm` in the groups and in that the running
    variance is unbiased, as PyTorch's. Running statistics are averaged over groups.
    """

    num_groups: int
    dtype: DTypeLike
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w c"]:
        """Normalise in float32 and return `dtype`.

        With `train` the batch's own statistics are used and the running ones in
        `batch_stats` move on; without it the running ones are used.

        Raises:
          ValueError: in training, if the groups do not divide the batch or hold a
            single value a channel.
        """
        channels = x.shape[-1:]
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)

        if not train:
            y = _normalize(x, running_mean.value, running_var.value, scale, bias)
            return y.astype(self.dtype)

        grouped = split_groups(x, self.num_groups).astype(jnp.float32)
        count = grouped[0, ..., 0].size
        if count == 1:
            raise ValueError("BatchNorm cannot train on one value per channel")
        # Two passes: E[x^2] - E[x]^2 cancels badly where the mean is large.
        mean = jnp.mean(grouped, axis=(1, 2, 3))
        centred = grouped - mean[:, None, None, None]
        var = jnp.mean(jnp.square(centred), axis=(1, 2, 3))
        if not self.is_initializing():
            unbiased = var * (count / (count - 1))
            running_mean.value = _moved(running_mean.value, mean)
            running_var.value = _moved(running_var.value, unbiased)
        y = jax.vmap(_normalize, in_axes=(0, 0, 0, None, None))(
            grouped, mean, var, scale, bias
        )
        return y.reshape(x.shape).astype(self.dtype)


def split_groups(
    x: Float[Array, "b h w c"], num_groups: int
) -> Float[Array, "g n h w c"]:
    """Cut the batch into runs of consecutive examples."""
    if num_groups < 1 or x.shape[0] % num_groups:
        raise ValueError(
            f"bn_groups={num_groups} does not divide the batch of {x.shape[0]} images"
        )
    return x.reshape(num_groups, -1, *x.shape[1:])


def _normalize(
    x: Float[Array, "b h w c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
) -> Float[Array, "b h w c"]:
    factor = scale * jax.lax.rsqrt(var + EPSILON)
    centred = x.astype(jnp.float32) - mean[None, None, None]
    return centred * factor[None, None, None] + bias[None, None, None]


def _moved(
    running: Float[Array, " c"], per_group: Float[Array, "g c"]
) -> Float[Array, " c"]:
    return MOMENTUM * running + (1 - MOMENTUM) * jnp.mean(per_group, axis=0)
