"""Objectives after retrieval from a modern Hopfield network: CLOOB, and its ablation.

The memory of the network is the batch itself, a pattern a row (CLOOB, Fürst et al.
2022, arXiv 2110.11316). Nothing is detached: gradients flow through the queries, the
stored patterns and the weights of the retrieval.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.objectives import contrastive
from cloob_jax.objectives.contrastive import Metrics, Scalar


class Retrievals(NamedTuple):
    """What each side retrieves from each memory: the paper's U_x, U_y, V_y, V_x.

    `text_from_images`, for one, holds what the texts as queries retrieve from the
    stored images. `entropy` is the mean of all their weights' entropies, in nats: its
    exponential is the effective number of patterns that a retrieval mixes.
    """

    image_from_images: Float[Array, "b d"]
    text_from_images: Float[Array, "b d"]
    text_from_texts: Float[Array, "b d"]
    image_from_texts: Float[Array, "b d"]
    entropy: Float[Array, ""]


def cloob(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    inv_tau: Scalar,
    beta: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """CLOOB: Hopfield retrieval, then InfoLOOB.

    Scale: tau times eq. (1) of the paper, summed over the two sides, as in the authors'
    code; inv_tau / 2 times this is the loss of crowsonkb/cloob-training. With N equal
    embeddings it is 2 tau ln(N - 1), and it goes below zero as training succeeds.
    """
    found = retrieve_all(image_embeds, text_embeds, beta)
    image_side = contrastive.infoloob_side(
        found.image_from_images, found.text_from_images, inv_tau
    )
    text_side = contrastive.infoloob_side(
        found.text_from_texts, found.image_from_texts, inv_tau
    )
    return image_side + text_side, {"retrieval_entropy": found.entropy}


def hopfield_infonce(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    inv_tau: Scalar,
    beta: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """Hopfield retrieval, then InfoNCE: the ablation of CLOOB without InfoLOOB.

    Scale: `clip`'s, the mean of the two sides' cross entropies in nats, so that the two
    differ by the retrieval alone.
    """
    found = retrieve_all(image_embeds, text_embeds, beta)
    image_side = contrastive.infonce_side(
        found.image_from_images, found.text_from_images, inv_tau
    )
    text_side = contrastive.infonce_side(
        found.text_from_texts, found.image_from_texts, inv_tau
    )
    return (image_side + text_side) / 2, {"retrieval_entropy": found.entropy}


def retrieve_all(
    image_embeds: Float[Array, "b d"], text_embeds: Float[Array, "b d"], beta: Scalar
) -> Retrievals:
    """Retrieves for both sides from the images, and for both from the texts."""
    u_x, entropy_u_x = retrieve(image_embeds, image_embeds, beta)
    u_y, entropy_u_y = retrieve(image_embeds, text_embeds, beta)
    v_y, entropy_v_y = retrieve(text_embeds, text_embeds, beta)
    v_x, entropy_v_x = retrieve(text_embeds, image_embeds, beta)
    entropy = jnp.mean(entropy_u_x + entropy_u_y + entropy_v_y + entropy_v_x) / 4
    return Retrievals(u_x, u_y, v_y, v_x, entropy)


def retrieve(
    stored: Float[Array, "m d"], queries: Float[Array, "n d"], beta: Scalar
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """One update step of a modern Hopfield network, its result L2-normalised.

    softmax(beta * queries stored^T) stored: CLOOB, eq. (2) and (3), row by row. A query
    that is itself stored is not masked. The paper's equations leave out the
    normalisation; the authors' code has it.

    Returns:
      The retrieved patterns, and the entropy of each one's weights in nats.
    """
    log_weights = jax.nn.log_softmax(
        beta * contrastive.similarities(queries, stored), axis=1
    )
    weights = jnp.exp(log_weights)
    retrieved = jnp.einsum(
        "nm,md->nd", weights, stored, precision=jax.lax.Precision.HIGHEST
    )
    return _normalise(retrieved), -jnp.sum(weights * log_weights, axis=1)


def _normalise(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    # Opposite patterns in equal parts cancel: the bound keeps that gradient finite.
    square = jnp.sum(rows**2, axis=1, keepdims=True)
    return rows / jnp.sqrt(jnp.maximum(square, 1e-24))
