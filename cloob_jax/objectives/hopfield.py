"""Objectives after retrieval from a modern Hopfield network: CLOOB, and its ablation.

The memory of the network is the batch itself, a pattern a row (CLOOB, Fürst et al.
2022, arXiv 2110.11316). Nothing is detached: gradients flow through the queries, the
stored patterns and the weights of the retrieval.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.objectives import contrastive
from cloob_jax.objectives.contrastive import Metrics
from cloob_jax.objectives.pairwise import Pairwise, Scalar


class Retrievals(NamedTuple):
    """What each side retrieves from each memory: the paper's U_x, U_y, V_y, V_x.

    `text_from_images`, for one, holds what the texts as queries retrieve from the
    stored images. `entropy` is the mean of the four weights' entropies, in nats: its
    exponential is the effective number of patterns that a retrieval mixes.
    """

    image_from_images: Float[Array, "b d"]
    text_from_images: Float[Array, "b d"]
    text_from_texts: Float[Array, "b d"]
    image_from_texts: Float[Array, "b d"]
    entropy: Float[Array, " b"]


def cloob(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
    beta: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """CLOOB: Hopfield retrieval, then InfoLOOB.

    Scale: tau times eq. (1) of the paper, summed over the two sides, as in the authors'
    code; inv_tau / 2 times this is the loss of crowsonkb/cloob-training. With N equal
    embeddings it is 2 tau ln(N - 1), and it goes below zero as training succeeds.
    """
    found = retrieve_all(image_embeds, text_embeds, over, beta)
    image_side = contrastive.infoloob_side(
        found.image_from_images, found.text_from_images, over, inv_tau
    )
    text_side = contrastive.infoloob_side(
        found.text_from_texts, found.image_from_texts, over, inv_tau
    )
    loss = over.sum(image_side + text_side) / num_pairs
    return loss, {"retrieval_entropy": over.sum(found.entropy) / num_pairs}


def hopfield_infonce(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
    beta: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """Hopfield retrieval, then InfoNCE: the ablation of CLOOB without InfoLOOB.

    Scale: `clip`'s, the mean of the two sides' cross entropies in nats, so that the two
    differ by the retrieval alone.
    """
    found = retrieve_all(image_embeds, text_embeds, over, beta)
    image_side = contrastive.infonce_side(
        found.image_from_images, found.text_from_images, over, inv_tau
    )
    text_side = contrastive.infonce_side(
        found.text_from_texts, found.image_from_texts, over, inv_tau
    )
    loss = over.sum(image_side + text_side) / (2 * num_pairs)
    return loss, {"retrieval_entropy": over.sum(found.entropy) / num_pairs}


def retrieve_all(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    beta: Scalar,
) -> Retrievals:
    """Retrieves for both sides from the images, and for both from the texts.

    One update step of a modern Hopfield network, its results L2-normalised:
    softmax(beta * queries stored^T) stored, CLOOB, eq. (2) and (3), row by row. A query
    that is itself stored is not masked. The paper's equations leave out the
    normalisation; the authors' code has it.
    """
    sides = (image_embeds, text_embeds)
    (u_x, u_y), from_images = over.retrieve(image_embeds, sides, beta)
    (v_x, v_y), from_texts = over.retrieve(text_embeds, sides, beta)
    entropy = jnp.mean(jnp.stack([*from_images, *from_texts]), axis=0)
    return Retrievals(u_x, u_y, v_y, v_x, entropy)
