"""What is compiled ahead does what is compiled at the first call, and says why not."""

import dataclasses

import jax
import numpy as np
import pytest
from test_step import make_batch, tiny_config

from cloob_jax import compilation, program, sharding


def test_a_step_compiled_ahead_is_the_same_step_and_donates():
    parts = program.build(tiny_config(), sharding.make_mesh())
    ahead = compilation.begin(parts)()
    assert not hasattr(ahead.train_step, "lower")  # there is nothing left to compile
    batch, state = make_batch(parts), parts.init()
    expected = jax.device_get(parts.train_step(parts.init(), batch))
    found = jax.device_get(ahead.train_step(state, batch))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_what_cannot_be_compiled_is_told_to_who_waits():
    class Step:
        def __call__(self, state, batch):
            raise AssertionError

        def lower(self, *_):
            raise MemoryError("RESOURCE_EXHAUSTED")

    parts = program.build(tiny_config(), sharding.make_mesh())
    with pytest.raises(MemoryError, match="RESOURCE_EXHAUSTED"):
        compilation.begin(dataclasses.replace(parts, train_step=Step()))()
