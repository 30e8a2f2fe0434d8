"""The vision transformer's grid of patches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cloob_jax import models


def test_grid_follows_image_size_and_training_changes_nothing():
    visual = models.build(
        "ViT-tiny", image_size=40, compute=models.Compute(jnp.float32)
    ).visual
    visual = visual.clone(num_layers=1)
    images = np.random.default_rng(0).normal(size=(2, 40, 40, 3)).astype(np.float32)
    variables = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, np.float32),
        jax.eval_shape(visual.init, jax.random.key(0), images),
    )
    assert set(variables) == {"params"}
    positions = variables["params"]["positional_embedding"]
    assert positions.shape == (5 * 5 + 1, 128)
    trained, evaluated = (
        jax.make_jaxpr(functools.partial(visual.apply, train=train))(variables, images)
        for train in (True, False)
    )
    assert str(trained) == str(evaluated)
