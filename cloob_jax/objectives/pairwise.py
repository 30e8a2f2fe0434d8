"""What the objectives reduce over all pairs of rows, in the plain way: whole matrices.

The objectives are written on these few reductions, so that each is written once and
computed in several ways: here as it stands in the equations, with every N x N matrix in
memory; in `blockwise` a block at a time.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""] | float
Sides = tuple[Float[Array, "b d"], ...]

MIN_NORM = 1e-12  # opposite patterns may cancel: their gradient has to stay finite
MASKED = -1e30  # a logit left out; finite, as a difference of infinities is no number


@runtime_checkable
class Pairwise(Protocol):
    """Reductions over all pairs of two sides' rows.

    Sides are `[b, d]`, a row a pair; row i of one side belongs to row i of the other.
    Products are taken at the highest precision: bfloat16 inputs cost about 2 % of the
    gradient.
    """

    def logsumexp_of_others(
        self,
        anchors: Float[Array, "b d"],
        candidates: Float[Array, "b d"],
        scale: Scalar,
    ) -> Float[Array, " b"]:
        """ln sum_{j != i} exp(scale a_i.c_j)."""

    def logsumexps_of_others(
        self,
        images: Float[Array, "b d"],
        texts: Float[Array, "b d"],
        scale: Scalar,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """`logsumexp_of_others` of both sides, each with the other as candidates."""

    def retrieve(
        self, stored: Float[Array, "b d"], queries: Sides, beta: Scalar
    ) -> tuple[Sides, tuple[Float[Array, " b"], ...]]:
        """For each side of queries softmax_j(beta q_i.s_j) s_j, L2-normalised.

        And the entropy of each row's weights in nats, a metric without a gradient.
        """

    def sum_log_sigmoid(
        self,
        rows: Float[Array, "b d"],
        columns: Float[Array, "b d"],
        scale: Scalar,
        bias: Scalar,
    ) -> Float[Array, " b"]:
        """sum_j ln sigmoid(+-(scale r_i.c_j + bias)): + where j = i, - elsewhere."""

    def sum(self, values: Float[Array, "b ..."]) -> Float[Array, "..."]:
        """The sum over all rows of the batch."""


class Plain:
    """The reductions of `Pairwise` on whole matrices; the compiler splits them."""

    def logsumexp_of_others(
        self,
        anchors: Float[Array, "b d"],
        candidates: Float[Array, "b d"],
        scale: Scalar,
    ) -> Float[Array, " b"]:
        """See `Pairwise`."""
        logits = scale * similarities(anchors, candidates)
        others = jnp.where(_pair_mask(len(anchors)), MASKED, logits)
        return jax.nn.logsumexp(others, axis=1)

    def logsumexps_of_others(
        self,
        images: Float[Array, "b d"],
        texts: Float[Array, "b d"],
        scale: Scalar,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """See `Pairwise`."""
        logits = scale * similarities(images, texts)
        others = jnp.where(_pair_mask(len(images)), MASKED, logits)
        by_image, by_text = (jax.nn.logsumexp(others, axis=axis) for axis in (1, 0))
        return by_image, by_text

    def retrieve(
        self, stored: Float[Array, "b d"], queries: Sides, beta: Scalar
    ) -> tuple[Sides, tuple[Float[Array, " b"], ...]]:
        """See `Pairwise`."""
        retrieved, entropies = [], []
        for side in queries:
            logits = beta * similarities(side, stored)
            mixed = mix(jax.nn.softmax(logits, axis=1), stored)
            retrieved.append(mixed / bounded_norm(mixed)[:, None])
            log_total = jax.nn.logsumexp(logits, axis=1)
            entropies.append(entropy(side, mixed, log_total, beta))
        return tuple(retrieved), jax.lax.stop_gradient(tuple(entropies))

    def sum_log_sigmoid(
        self,
        rows: Float[Array, "b d"],
        columns: Float[Array, "b d"],
        scale: Scalar,
        bias: Scalar,
    ) -> Float[Array, " b"]:
        """See `Pairwise`."""
        logits = scale * similarities(rows, columns) + bias
        signed = jnp.where(_pair_mask(len(rows)), logits, -logits)
        return jnp.sum(jax.nn.log_sigmoid(signed), axis=1)

    def sum(self, values: Float[Array, "b ..."]) -> Float[Array, "..."]:
        """See `Pairwise`."""
        return jnp.sum(values, axis=0)


def similarities(
    rows: Float[Array, "m d"], columns: Float[Array, "n d"]
) -> Float[Array, "m n"]:
    """Inner products of all rows with all columns, at the highest precision."""
    return jnp.einsum("md,nd->mn", rows, columns, precision=jax.lax.Precision.HIGHEST)


def mix(
    weights: Float[Array, "m n"], patterns: Float[Array, "n d"]
) -> Float[Array, "m d"]:
    """Weighted sums of the patterns, at the highest precision."""
    return jnp.einsum(
        "mn,nd->md", weights, patterns, precision=jax.lax.Precision.HIGHEST
    )


def pair_similarities(
    rows: Float[Array, "b d"], columns: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """Inner products of row i with column i, no part of which leaves its device."""
    return jnp.sum(rows * columns, axis=1)


def bounded_norm(rows: Float[Array, "b d"]) -> Float[Array, " b"]:
    """The L2 norms, at least `MIN_NORM`."""
    return jnp.sqrt(jnp.maximum(pair_similarities(rows, rows), MIN_NORM**2))


def entropy(
    queries: Float[Array, "b d"],
    mixed: Float[Array, "b d"],
    log_total: Float[Array, " b"],
    beta: Scalar,
) -> Float[Array, " b"]:
    """-sum_j w_j ln w_j, as ln w_j = beta q.s_j - log_total and mixed = sum_j w_j s_j.

    In nats; rounding does not take it below 0.
    """
    return jnp.maximum(log_total - beta * pair_similarities(queries, mixed), 0)


def _pair_mask(num_pairs: int) -> Bool[Array, "b b"]:
    return jnp.eye(num_pairs, dtype=bool)
