"""Digests against the same sum in plain Python, on meshes, and with bits flipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from cloob_jax import digests


def by_hand(array, word):
    words = np.frombuffer(array.tobytes(), word).tolist()
    return sum(w * (2 * i + 1) for i, w in enumerate(words)) % 2**32


@pytest.mark.parametrize(
    ("dtype", "word"),
    [("float32", "<u4"), ("int32", "<u4"), ("bfloat16", "<u2"), ("bool", "<u1")],
)
def test_a_digest_is_the_sum_that_it_says(dtype, word):
    rng = np.random.default_rng(0)
    array = rng.normal(0, 1e3, (6, 5, 4)).astype(jnp.dtype(dtype))
    expected = by_hand(array, word)
    tree = {"a": {"b": array}, "c": np.array(3, np.int32)}
    assert digests.of_tree(tree) == {"a/b": expected, "c": 3}
    assert digests.of_tree(jax.tree.map(jnp.asarray, tree))["a/b"] == expected


def test_it_is_the_same_on_every_mesh():
    array = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    for shape, spec in (((8, 1), ("a", None)), ((2, 4), ("b", "a")), ((2, 4), (None,))):
        mesh = jax.make_mesh(
            shape, ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
        )
        placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
        assert digests.of_tree([placed]) == {"0": by_hand(array, "<u4")}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 23), st.integers(0, 31))
def test_every_flipped_bit_is_seen(place, bit):
    words = np.random.default_rng(2).integers(0, 2**32, (4, 6), np.uint32)
    before = digests.of_tree([words])
    words.flat[place] ^= np.uint32(1 << bit)
    assert digests.of_tree([words]) != before


def test_arrays_that_changed_places_are_seen():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digests.of_tree([array]) != digests.of_tree([array[::-1].copy()])
