"""The residual network in training, its batch on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cloob_jax import models


def relative_error(tree, expected):
    flat, flat_expected = ravel_pytree(tree)[0], ravel_pytree(expected)[0]
    return np.linalg.norm(flat - flat_expected) / np.linalg.norm(flat_expected)


def make_step(remat="none"):
    """Loss, statistics and gradient of a small network, its variables and a batch."""
    compute = models.Compute(jnp.float32, remat=remat)
    visual = models.build("RN-tiny", compute=compute, bn_groups=2).visual
    visual = visual.clone(layers=(1,), width=16)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 32, 32, 3)).astype(np.float32)
    targets = rng.normal(size=(16, 64)).astype(np.float32)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 4,
        jax.eval_shape(visual.init, jax.random.key(0), images),
    )

    def loss(params, stats, images, targets):
        embeds, updated = visual.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.vdot(embeds, targets), updated

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return step, (variables["params"], variables["batch_stats"]), (images, targets)


def test_training_on_eight_devices_equals_one():
    step, state, batch = make_step()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    by_example = NamedSharding(mesh, PartitionSpec("data"))
    sharded = step(*state, *jax.device_put(batch, by_example))
    (value, updated), gradient = step(*state, *batch)

    assert relative_error(sharded[0][0], value) < 1e-5
    assert relative_error(sharded[0][1], updated) < 1e-5
    assert relative_error(sharded[1], gradient) < 1e-5


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_what_is_computed_again_is_the_same(remat):
    step, state, batch = make_step()
    (value, updated), gradient = step(*state, *batch)
    again = make_step(remat)[0](*state, *batch)
    assert relative_error(again[0][0], value) < 1e-6
    assert relative_error(again[0][1], updated) < 1e-6
    assert relative_error(again[1], gradient) < 1e-6
