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
# gathered columns take, and large enough for the matrix units. Where rows are many it
# has more, as each block reads and writes what is summed by row.
_BLOCK_ENTRIES = 2**19
_MIN_COLUMNS = 512

# (state, a block of columns, the number of its first) -> state, gradient of the block
Visit = Callable[[Any, Any, Array], tuple[Any, Any]]


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
        self, visit: Visit, state: Any, columns: Any, gradient: Any
    ) -> tuple[Any, Any]:
        """Calls `visit` on blocks of all columns, of which each device has a part.

        Args:
          visit: takes the state on, and returns the gradient of the block, or None.
          state: at the start.
          columns: this device's: an array, or several with an entry a column each.
          gradient: zeros like those that `visit` returns, for `columns`, or None.

        Returns:
          The state, and this device's columns' gradient, summed over all devices.
        """
        if not self.axes:
            return self._in_blocks(visit, state, columns, jnp.zeros((), jnp.int32))
        if self.form == "gather":
            gather, scatter = (
                functools.partial(move, axis_name=self.axes, tiled=True)
                for move in (jax.lax.all_gather, jax.lax.psum_scatter)
            )
            start = jnp.zeros((), jnp.int32)
            everything = jax.tree.map(gather, columns)
            state, found = self._in_blocks(visit, state, everything, start)
            return state, jax.tree.map(scatter, found)
        return self._around(visit, state, columns, gradient)

    def _around(
        self, visit: Visit, state: Any, columns: Any, gradient: Any
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
            coming, gradient = jax.tree.map(send, (columns, gradient))
            start = (rank - number) % count * _length(columns)  # of its owner's
            state, found = self._in_blocks(visit, state, columns, start)
            return (state, coming, jax.tree.map(jnp.add, gradient, found)), None

        carry = (state, columns, gradient)
        (state, _, gradient), _ = jax.lax.scan(hop, carry, jnp.arange(count))
        return state, jax.tree.map(send, gradient)  # home

    def _in_blocks(
        self, visit: Visit, state: Any, columns: Any, start: Array
    ) -> tuple[Any, Any]:
        """Blocks of one length in a loop, and what is left over after it."""
        size = self.block_size or max(_BLOCK_ENTRIES // _length(state), _MIN_COLUMNS)
        count, rest = divmod(_length(columns), size)
        if count == 0:
            return visit(state, columns, start)
        whole = count * size
        blocks = jax.tree.map(
            lambda part: part[:whole].reshape(count, size, *part.shape[1:]), columns
        )
        state, found = jax.lax.scan(
            lambda state, block: visit(state, *block),
            state,
            (blocks, start + size * jnp.arange(count)),
        )
        found = jax.tree.map(lambda part: part.reshape(whole, *part.shape[2:]), found)
        if rest:
            left_over = jax.tree.map(lambda part: part[whole:], columns)
            state, last = visit(state, left_over, start + whole)
            found = jax.tree.map(lambda *parts: jnp.concatenate(parts), found, last)
        return state, found

    def is_pair(self, rows: Array, columns: Array, start: Array) -> Array:
        """Whether a row and a column of a block that begins at `start` are a pair."""
        first = jax.lax.axis_index(self.axes) * len(rows) if self.axes else 0
        row = first + jnp.arange(len(rows))
        return row[:, None] == (start + jnp.arange(len(columns)))[None, :]


def _length(arrays: Any) -> int:
    return len(jax.tree.leaves(arrays)[0])
