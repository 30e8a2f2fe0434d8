"""A number for each array of a tree, by which a flipped bit is found."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32


def of_tree(tree: Any) -> dict[str, int]:
    """A digest of each leaf, by its path; the same on every mesh, process and device.

    The sum modulo 2^32 of each word times an odd number of its own, 2i + 1: a change of
    one word changes it, since an odd number has an inverse, and other changes do but
    for one in 2^32. Sums of whole numbers do not depend on their order, so that each
    device sums what it holds.

    Args:
      tree: arrays, on a mesh or on the host.
    """
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    placed = [leaf.sharding for leaf in leaves if isinstance(leaf, jax.Array)]
    meshes = [place.mesh for place in placed if isinstance(place, NamedSharding)]
    everywhere = NamedSharding(meshes[0], PartitionSpec()) if meshes else None
    sums = jax.jit(_sums, out_shardings=everywhere)(leaves)
    return dict(zip(names, np.asarray(sums).tolist(), strict=True))


def _sums(leaves: tuple[Array, ...]) -> UInt32[Array, " n"]:
    return jnp.stack([_sum(leaf) for leaf in leaves])


@jax.jit  # traced once for all leaves of a shape, and moments have those of weights
def _sum(leaf: Array) -> UInt32[Array, ""]:
    leaf = jnp.asarray(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    width = min(leaf.dtype.itemsize, 4)
    words = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * width}"))
    words = words.astype(jnp.uint32)
    index, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        count = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index, stride = index + count * jnp.uint32(stride), stride * words.shape[axis]
    return jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)
