"""Objectives after retrieval from a modern Hopfield network: CLOOB, and its ablation.

The memory of the network is the batch itself, a pattern a row (CLOOB, Fürst et al.
2022, arXiv 2110.11316). Nothing is detached: gradients flow through the queries, the
stored patterns and the weights of the retrieval.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.objectives import contrastive
from cloob_jax.objectives.contrastive import Metrics
from cloob_jax.objectives.pairwise import Pairwise, Scalar


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
    image_side, text_side, metrics = _infoloob_after_retrieval(
        image_embeds, text_embeds, over, num_pairs, inv_tau, beta
    )
    return over.sum(image_side + text_side) / num_pairs, metrics


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
    image_side, text_side, metrics = _infoloob_after_retrieval(
        image_embeds, text_embeds, over, num_pairs, inv_tau, beta
    )
    image_side, text_side = (
        contrastive.infonce_of(side, inv_tau) for side in (image_side, text_side)
    )
    return over.sum(image_side + text_side) / (2 * num_pairs), metrics


def _infoloob_after_retrieval(
    x: Float[Array, "b d"],
    y: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
    beta: Scalar,
) -> tuple[Float[Array, " b"], Float[Array, " b"], Metrics]:
    """InfoLOOB's two sides on what images x and texts y retrieve.

    From the images the paper's U_x and U_y, as each other's anchors and candidates;
    from the texts V_y and V_x. A retrieval is one update step of a modern Hopfield
    network, softmax(beta * queries stored^T) stored (eq. 2 and 3, row by row), and is
    then L2-normalised. A query that is itself stored is not masked. The paper's
    equations leave out the normalisation; the authors' code has it.

    Returns:
      Both sides, and the mean of the four retrievals' entropies in nats, whose
      exponential is the effective number of patterns that one mixes.
    """
    (u_x, u_y), from_images = over.retrieve(x, (x, y), beta)
    image_side = contrastive.infoloob_side(u_x, u_y, over, inv_tau)
    # One memory after the other, forwards and backwards: what the two keep for their
    # gradients does not have to live at the same time.
    x, y, image_side = jax.lax.optimization_barrier((x, y, image_side))
    (v_x, v_y), from_texts = over.retrieve(y, (x, y), beta)
    text_side = contrastive.infoloob_side(v_y, v_x, over, inv_tau)
    entropy = jnp.mean(jnp.stack([*from_images, *from_texts]), axis=0)
    return image_side, text_side, {"retrieval_entropy": over.sum(entropy) / num_pairs}
