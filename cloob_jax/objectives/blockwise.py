"""The reductions of `pairwise` in memory that grows with N x D, not with N x N.

All columns pass by the rows of each device (see `passage`), and only sums a row are
kept; the backward passes, written by hand, recompute each block. Nothing is
approximated: a softmax's running maximum and total are those of Milakov and Gimelshein
(2018, arXiv 1805.02867), the recomputation is FlashAttention's (Dao et al. 2022, arXiv
2205.14135, algorithms 2 and 4).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.objectives.pairwise import (
    MASKED,
    MIN_NORM,
    Scalar,
    Sides,
    bounded_norm,
    entropy,
    mix,
    pair_similarities,
    similarities,
)
from cloob_jax.objectives.passage import Passage


class Blockwise(Passage):
    """The reductions of `Pairwise`, on columns that pass by."""

    def logsumexp_of_others(
        self,
        anchors: Float[Array, "b d"],
        candidates: Float[Array, "b d"],
        scale: Scalar,
    ) -> Float[Array, " b"]:
        """See `Pairwise`."""
        return _logsumexp_of_others(self, anchors, candidates, scale)

    def logsumexps_of_others(
        self,
        images: Float[Array, "b d"],
        texts: Float[Array, "b d"],
        scale: Scalar,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """See `Pairwise`; the backward pass computes each logit once for both."""
        return _logsumexps_of_others(self, images, texts, scale)

    def retrieve(
        self, stored: Float[Array, "b d"], queries: Sides, beta: Scalar
    ) -> tuple[Sides, tuple[Float[Array, " b"], ...]]:
        """See `Pairwise`; all queries in one pass, as the stored rows are the same."""
        return _retrieve(self, stored, queries, beta)

    def sum_log_sigmoid(
        self,
        rows: Float[Array, "b d"],
        columns: Float[Array, "b d"],
        scale: Scalar,
        bias: Scalar,
    ) -> Float[Array, " b"]:
        """See `Pairwise`."""
        return _sum_log_sigmoid(self, rows, columns, scale, bias)

    def sum(self, values: Float[Array, "b ..."]) -> Float[Array, "..."]:
        """See `Pairwise`."""
        total = jnp.sum(values, axis=0)
        return jax.lax.psum(total, self.axes) if self.axes else total


class _Softmax(NamedTuple):
    """Running sums of a row's softmax: exp(logit - top), and of those times columns."""

    top: Float[Array, " b"]
    total: Float[Array, " b"]
    mixed: Float[Array, "b d"] | None = None

    def add(
        self, logits: Float[Array, "b n"], block: Float[Array, "n d"]
    ) -> "_Softmax":
        top = jnp.maximum(self.top, jnp.max(logits, axis=1))
        shrink = jnp.exp(self.top - top)
        weights = jnp.exp(logits - top[:, None])
        total = self.total * shrink + jnp.sum(weights, axis=1)
        if self.mixed is None:
            return _Softmax(top, total)
        return _Softmax(top, total, self.mixed * shrink[:, None] + mix(weights, block))

    def weights(self, logits: Float[Array, "b n"]) -> Float[Array, "b n"]:
        # Not by the logarithm of the total, whose rounding all weights would share.
        return jnp.exp(logits - self.top[:, None]) / self.total[:, None]

    def log_total(self) -> Float[Array, " b"]:
        return self.top + jnp.log(self.total)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logsumexp_of_others(
    over: Blockwise, rows: Array, columns: Array, scale: Array
) -> Array:
    return _logsumexp_of_others_forward(over, rows, columns, scale)[0]


def _logsumexp_of_others_forward(
    over: Blockwise, rows: Array, columns: Array, scale: Array
) -> tuple[Array, tuple]:
    def visit(sums: _Softmax, block: Array, start: Array) -> tuple[_Softmax, None]:
        return sums.add(_logits_of_others(over, rows, block, scale, start), block), None

    zero = rows[:, 0] * 0
    sums, _ = over.pass_by(visit, _Softmax(zero + MASKED, zero), columns, None)
    return sums.log_total(), (rows, columns, scale, sums)


def _logsumexp_of_others_backward(
    over: Blockwise, kept: tuple, cotangent: Array
) -> tuple[Array, Array, Array]:
    rows, columns, scale, sums = jax.lax.optimization_barrier((kept, cotangent))[0]

    def visit(by_rows: Array, block: Array, start: Array) -> tuple[Array, Array]:
        logits = _logits_of_others(over, rows, block, scale, start)
        by_logits = sums.weights(logits) * cotangent[:, None]
        return by_rows + mix(by_logits, block), scale * mix(by_logits.T, rows)

    by_rows, by_columns = over.pass_by(visit, rows * 0, columns, columns * 0)
    return scale * by_rows, by_columns, _inner(rows, by_rows)


_logsumexp_of_others.defvjp(_logsumexp_of_others_forward, _logsumexp_of_others_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logsumexps_of_others(
    over: Blockwise, rows: Array, columns: Array, scale: Array
) -> tuple[Array, Array]:
    return _logsumexps_of_others_forward(over, rows, columns, scale)[0]


def _logsumexps_of_others_forward(
    over: Blockwise, rows: Array, columns: Array, scale: Array
) -> tuple[tuple[Array, Array], tuple]:
    by_row, kept = _logsumexp_of_others_forward(over, rows, columns, scale)
    by_column, transposed = _logsumexp_of_others_forward(over, columns, rows, scale)
    return (by_row, by_column), (*kept, transposed[-1])


def _logsumexps_of_others_backward(
    over: Blockwise, kept: tuple, cotangents: tuple
) -> tuple[Array, Array, Array]:
    kept, cotangents = jax.lax.optimization_barrier((kept, cotangents))
    rows, columns, scale, row_sums, column_sums = kept
    row_cotangent, column_cotangent = cotangents

    def visit(by_rows: Array, block: tuple, start: Array) -> tuple[Array, Array]:
        columns, sums, cotangent = block
        logits = _logits_of_others(over, rows, columns, scale, start)
        by_logits = row_sums.weights(logits) * row_cotangent[:, None]
        by_logits += (sums.weights(logits.T) * cotangent[:, None]).T
        return by_rows + mix(by_logits, columns), scale * mix(by_logits.T, rows)

    by_rows, by_columns = over.pass_by(
        visit, rows * 0, (columns, column_sums, column_cotangent), columns * 0
    )
    return scale * by_rows, by_columns, _inner(rows, by_rows)


_logsumexps_of_others.defvjp(
    _logsumexps_of_others_forward, _logsumexps_of_others_backward
)


def _logits_of_others(
    over: Blockwise, rows: Array, block: Array, scale: Array, start: Array
) -> Array:
    is_pair = over.is_pair(rows, block, start)
    return jnp.where(is_pair, MASKED, scale * similarities(rows, block))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _retrieve(over: Blockwise, stored: Array, queries: Sides, beta: Array) -> tuple:
    return _retrieve_forward(over, stored, queries, beta)[0]


def _retrieve_forward(
    over: Blockwise, stored: Array, queries: Sides, beta: Array
) -> tuple[tuple, tuple]:
    def visit(state: tuple, block: Array, start: Array) -> tuple[tuple, None]:
        del start
        logits = [beta * similarities(side, block) for side in queries]
        pairs = zip(state, logits, strict=True)
        return tuple(sums.add(own, block) for sums, own in pairs), None

    zero = stored[:, 0] * 0
    state = tuple(_Softmax(zero + MASKED, zero, side * 0) for side in queries)
    state, _ = over.pass_by(visit, state, stored, None)
    retrieved, entropies, norms = [], [], []
    for side, sums in zip(queries, state, strict=True):
        mixed = sums.mixed / sums.total[:, None]
        norms.append(bounded_norm(mixed))
        retrieved.append(mixed / norms[-1][:, None])
        entropies.append(entropy(side, mixed, sums.log_total(), beta))
    # What is mixed is kept as what was retrieved and its norm: the former lives anyway.
    sums = tuple(_Softmax(sums.top, sums.total) for sums in state)
    kept = (stored, queries, beta, sums, tuple(retrieved), tuple(norms))
    return (tuple(retrieved), tuple(entropies)), kept


def _retrieve_backward(
    over: Blockwise, kept: tuple, cotangents: tuple
) -> tuple[Array, Sides, Array]:
    kept, (by_retrieved, _) = jax.lax.optimization_barrier((kept, cotangents))
    stored, queries, beta, sums, retrieved, norms = kept
    by_mixed, shifts = [], []
    for by_side, side, norm in zip(by_retrieved, retrieved, norms, strict=True):
        # The derivative of a norm is 0 where it is at its bound.
        along = pair_similarities(by_side, side) * (norm > MIN_NORM)
        by_mixed.append((by_side - along[:, None] * side) / norm[:, None])
        shifts.append(pair_similarities(by_mixed[-1], side) * norm)

    def visit(state: tuple, block: Array, start: Array) -> tuple[tuple, Array]:
        del start
        found, by_block = [], jnp.zeros((), block.dtype)
        for i, (by_side, rest) in enumerate(state):
            weights = sums[i].weights(beta * similarities(queries[i], block))
            slope = similarities(by_mixed[i], block) - shifts[i][:, None]
            by_logits = weights * slope
            rest += jnp.sum(by_logits, axis=1)
            found.append((by_side + mix(by_logits, block), rest))
            by_block += beta * mix(by_logits.T, queries[i])
            by_block += mix(weights.T, by_mixed[i])
        return tuple(found), by_block

    state = tuple((side * 0, side[:, 0] * 0) for side in queries)
    state, by_stored = over.pass_by(visit, state, stored, stored * 0)
    # A row's by_logits add up to 0, but for their rounding. That is most of them where
    # one pattern outweighs all others: it must not count as a pull towards that one.
    by_queries = tuple(
        by_side - (rest * norm)[:, None] * side
        for (by_side, rest), side, norm in zip(state, retrieved, norms, strict=True)
    )
    by_beta = jax.tree.reduce(jnp.add, jax.tree.map(_inner, queries, by_queries))
    return by_stored, tuple(beta * side for side in by_queries), by_beta


_retrieve.defvjp(_retrieve_forward, _retrieve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_log_sigmoid(
    over: Blockwise, rows: Array, columns: Array, scale: Array, bias: Array
) -> Array:
    def visit(total: Array, block: Array, start: Array) -> tuple[Array, None]:
        logits = scale * similarities(rows, block) + bias
        signed = jnp.where(over.is_pair(rows, block, start), logits, -logits)
        return total + jnp.sum(jax.nn.log_sigmoid(signed), axis=1), None

    return over.pass_by(visit, rows[:, 0] * 0, columns, None)[0]


def _sum_log_sigmoid_forward(
    over: Blockwise, rows: Array, columns: Array, scale: Array, bias: Array
) -> tuple[Array, tuple]:
    kept = (rows, columns, scale, bias)
    return _sum_log_sigmoid(over, *kept), kept


def _sum_log_sigmoid_backward(
    over: Blockwise, kept: tuple, cotangent: Array
) -> tuple[Array, Array, Array, Array]:
    rows, columns, scale, bias = jax.lax.optimization_barrier((kept, cotangent))[0]

    def visit(state: tuple, block: Array, start: Array) -> tuple[tuple, Array]:
        by_rows, by_bias = state
        logits = scale * similarities(rows, block) + bias
        # The derivative of ln sigmoid(z) is sigmoid(-z).
        slope = jnp.where(
            over.is_pair(rows, block, start),
            jax.nn.sigmoid(-logits),
            -jax.nn.sigmoid(logits),
        )
        by_logits = cotangent[:, None] * slope
        state = (by_rows + mix(by_logits, block), by_bias + jnp.sum(by_logits, axis=1))
        return state, scale * mix(by_logits.T, rows)

    state = (rows * 0, rows[:, 0] * 0)
    (by_rows, by_bias), by_columns = over.pass_by(visit, state, columns, columns * 0)
    return scale * by_rows, by_columns, _inner(rows, by_rows), jnp.sum(by_bias)


_sum_log_sigmoid.defvjp(_sum_log_sigmoid_forward, _sum_log_sigmoid_backward)


def _inner(a: Array, b: Array) -> Array:
    # Not jnp.vdot, a matrix product to the compiler, of its default precision.
    return jnp.sum(a * b)
