"""BatchNorm against NumPy, and on one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cloob_jax.models.batch_norm import BatchNorm

RNG = np.random.default_rng(0)
# A mean far from zero, where E[x^2] - E[x]^2 would lose the variance.
X = (30 + 0.1 * RNG.normal(size=(8, 3, 2, 5))).astype(np.float32)
VARIABLES = {
    "params": {
        "scale": RNG.uniform(0.5, 1.5, 5).astype(np.float32),
        "bias": RNG.normal(size=5).astype(np.float32),
    },
    "batch_stats": {
        "mean": RNG.normal(size=5).astype(np.float32),
        "var": RNG.uniform(0.5, 1.5, 5).astype(np.float32),
    },
}


def train(num_groups, x, dtype=jnp.float32):
    module = BatchNorm(num_groups, dtype)

    @jax.jit
    def apply(variables, x):
        return module.apply(variables, x, train=True, mutable=["batch_stats"])

    return apply(VARIABLES, x)


@pytest.mark.parametrize("num_groups", [1, 2, 8])
def test_training_equals_numpy(num_groups):
    y, updated = train(num_groups, X)
    params, stats = VARIABLES["params"], VARIABLES["batch_stats"]
    chunks = np.split(np.float64(X), num_groups)
    expected = [
        (chunk - chunk.mean((0, 1, 2))) / np.sqrt(chunk.var((0, 1, 2)) + 1e-5)
        for chunk in chunks
    ]
    expected = np.concatenate(expected) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-4)

    mean = np.mean([chunk.mean((0, 1, 2)) for chunk in chunks], axis=0)
    var = np.mean([chunk.var((0, 1, 2), ddof=1) for chunk in chunks], axis=0)
    new = updated["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.9 * stats["mean"] + 0.1 * mean, 1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * stats["var"] + 0.1 * var, 1e-5)


def test_bfloat16_statistics_are_float32():
    x = jnp.asarray(X, jnp.bfloat16)
    y, updated = train(2, x, jnp.bfloat16)
    expected, expected_updated = train(2, np.asarray(x, np.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), expected, rtol=2**-8, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, updated, expected_updated)


@pytest.mark.parametrize("num_groups", [1, 4, 8])
def test_eight_devices_equal_one(num_groups):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data")))
    # The two agree to rounding; the mean of 30 magnifies it in `y`.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-4),
        train(num_groups, sharded),
        train(num_groups, X),
    )


def test_impossible_groups_are_refused():
    with pytest.raises(ValueError, match="bn_groups=3 does not divide .* 8 images"):
        train(3, X)
    with pytest.raises(ValueError, match="one value per channel"):
        train(8, X[:, :1, :1])
