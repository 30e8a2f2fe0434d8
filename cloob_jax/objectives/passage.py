"""How all columns of a matrix pass by the rows of each device, a block at a time.

Rows are split over the devices, and so are columns. Two forms of passing by:

    gather: one all-gather of the columns, whose gradient is one reduce-scatter;
    ring: the columns go round from device to device, and their gradient with them, so
        that no device ever holds all columns.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A block's matrix has about so many entries: 2 MiB in float32, a fraction of what the
# gathered columns take, and large enough for the matrix units.
_BLOCK_ENTRIES = 2**19

# (state, a block of columns, the number of its first) -> state, gradient of the block
Visit = Callable[[Any, Array, Array], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Passage:
    """How columns pass by; inside `jax.shard_map` if there are axes.

    Attributes:
      form: `gather` or `ring`; the same where nothing is split.
      axes: of the mesh, over all of which the rows are split in their order.
      block_size: columns in a block, which need not divide N; None: by the memory.
    """

    form: str
    axes: tuple[str, ...] = ()
    block_size: int | None = None

    def varying(self, scalar: Float[Array, ""]) -> Float[Array, ""]:
        """A scalar that all devices share, as one of each device's own.

        Its gradient is then summed over the devices once, after the loops over blocks,
        and not in every round.
        """
        return jax.lax.pcast(scalar, self.axes, to="varying")

    def pass_by(
        self, visit: Visit, state: Any, columns: Float[Array, "b d"], gradient: Any
    ) -> tuple[Any, Any]:
        """Calls `visit` on blocks of all columns, of which each device has a part.

        Args:
          visit: takes the state on, and returns the gradient of the block, or None.
          state: at the start.
          columns: this device's.
          gradient: zeros like `columns` if `visit` returns gradients, or None.

        Returns:
          The state, and this device's columns' gradient, summed over all devices.
        """
        if not self.axes:
            return self._in_blocks(visit, state, columns, jnp.zeros((), jnp.int32))
        if self.form == "gather":
            everything = jax.lax.all_gather(columns, self.axes, tiled=True)
            start = jnp.zeros((), jnp.int32)
            state, found = self._in_blocks(visit, state, everything, start)
            scatter = functools.partial(
                jax.lax.psum_scatter, axis_name=self.axes, tiled=True
            )
            return state, jax.tree.map(scatter, found)
        return self._around(visit, state, columns, gradient)

    def _around(
        self, visit: Visit, state: Any, columns: Float[Array, "b d"], gradient: Any
    ) -> tuple[Any, Any]:
        count = jax.lax.axis_size(self.axes)
        rank = jax.lax.axis_index(self.axes)
        send = functools.partial(
            jax.lax.ppermute,
            axis_name=self.axes,
            perm=[(i, (i + 1) % count) for i in range(count)],
        )

        def hop(carry: tuple, number: Array) -> tuple[tuple, None]:
            state, columns, gradient = carry
            # What is sent does not depend on this hop's work: links and matrix units
            # are busy at the same time. The gradient follows its columns a hop behind.
            coming, gradient = send(columns), jax.tree.map(send, gradient)
            owner = (rank - number) % count
            state, found = self._in_blocks(visit, state, columns, owner * len(columns))
            return (state, coming, jax.tree.map(jnp.add, gradient, found)), None

        carry = (state, columns, gradient)
        (state, _, gradient), _ = jax.lax.scan(hop, carry, jnp.arange(count))
        return state, jax.tree.map(send, gradient)  # home

    def _in_blocks(
        self, visit: Visit, state: Any, columns: Float[Array, "n d"], start: Array
    ) -> tuple[Any, Any]:
        """Blocks of one length in a loop, and what is left over after it."""
        num_rows = len(jax.tree.leaves(state)[0])
        size = self.block_size or max(_BLOCK_ENTRIES // num_rows, 128)
        count = len(columns) // size
        if count == 0:
            return visit(state, columns, start)
        whole = count * size
        blocks = columns[:whole].reshape(count, size, -1)
        state, found = jax.lax.scan(
            lambda state, block: visit(state, *block),
            state,
            (blocks, start + size * jnp.arange(count)),
        )
        found = jax.tree.map(lambda blocks: blocks.reshape(whole, -1), found)
        if whole < len(columns):
            state, rest = visit(state, columns[whole:], start + whole)
            found = jax.tree.map(lambda *parts: jnp.concatenate(parts), found, rest)
        return state, found

    def is_pair(self, rows: Array, columns: Array, start: Array) -> Array:
        """Whether a row and a column of a block that begins at `start` are a pair."""
        first = jax.lax.axis_index(self.axes) * len(rows) if self.axes else 0
        row = first + jnp.arange(len(rows))
        return row[:, None] == (start + jnp.arange(len(columns)))[None, :]
