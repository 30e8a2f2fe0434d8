"""Contrastive objectives on the embeddings themselves: InfoLOOB, InfoNCE, sigmoid.

Embeddings are L2-normalised and float32 (or wider). The rows of the image and of the
text side are pairs; every other row of the batch is a negative. `over` is how sums over
all pairs are taken, and `num_pairs` how many there are on all devices together.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.objectives.pairwise import Pairwise, Scalar, pair_similarities

Metrics = dict[str, Float[Array, ""]]


def infoloob(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """InfoLOOB without retrieval; scale: tau times the sum of the two sides.

    The scale is `cloob`'s, so that the two differ by the retrieval alone.
    """
    image_side, text_side = _infoloob_sides(image_embeds, text_embeds, over, inv_tau)
    return over.sum(image_side + text_side) / num_pairs, {}


def clip(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """CLIP's symmetric InfoNCE (Radford et al. 2021, figure 3).

    Scale: the mean of the two sides' cross entropies, in nats, without a factor tau.
    """
    image_side, text_side = (
        infonce_of(side, inv_tau)
        for side in _infoloob_sides(image_embeds, text_embeds, over, inv_tau)
    )
    return over.sum(image_side + text_side) / (2 * num_pairs), {}


def siglip(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
    inv_tau: Scalar,
    bias: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """SigLIP's pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, algorithm 1).

    Scale: the mean over images of the sum over texts of -ln sigmoid(+-logit), where
    the sign is + for pairs and - for negatives.
    """
    by_image = over.sum_log_sigmoid(image_embeds, text_embeds, inv_tau, bias)
    return -over.sum(by_image) / num_pairs, {}


def infoloob_side(
    anchors: Float[Array, "b d"],
    candidates: Float[Array, "b d"],
    over: Pairwise,
    inv_tau: Scalar,
) -> Float[Array, " b"]:
    """One side of InfoLOOB, an anchor a row: the positive of anchor i is candidate i.

    CLOOB, eq. (1) (Fürst et al. 2022, arXiv 2110.11316), a term of one of its two sums:
    -ln[exp(a_i.c_i / tau) / sum_{j != i} exp(a_i.c_j / tau)], here times tau, as in the
    authors' code: tau leaves the positives' gradient alone.
    """
    negatives = over.logsumexp_of_others(anchors, candidates, inv_tau)
    return negatives / inv_tau - pair_similarities(anchors, candidates)


def infonce_of(
    infoloob_of_side: Float[Array, " b"], inv_tau: Scalar
) -> Float[Array, " b"]:
    """One side of InfoNCE: the cross entropy of finding each anchor's positive.

    -ln[exp(a_i.c_i / tau) / sum_j exp(a_i.c_j / tau)], in nats, no factor tau. That is
    ln(1 + e^x) of InfoLOOB without its tau, x: so written, nothing cancels where the
    pair has won and 1 - p, the factor of its gradient, is small.
    """
    return jax.nn.softplus(inv_tau * infoloob_of_side)


def _infoloob_sides(
    images: Float[Array, "b d"],
    texts: Float[Array, "b d"],
    over: Pairwise,
    inv_tau: Scalar,
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """`infoloob_side` of both sides, which look at the same matrix."""
    by_image, by_text = over.logsumexps_of_others(images, texts, inv_tau)
    positives = pair_similarities(images, texts)
    return by_image / inv_tau - positives, by_text / inv_tau - positives


def similarity_metrics(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    over: Pairwise,
    num_pairs: int,
) -> Metrics:
    """Mean inner products of pairs, and of negatives; 0 where there are none."""
    positives = over.sum(pair_similarities(image_embeds, text_embeds))
    # The sum over all pairs of rows is the inner product of the sums: no N x N matrix.
    everything = jnp.sum(over.sum(image_embeds) * over.sum(text_embeds))
    return {
        "positive_similarity": positives / num_pairs,
        # A float, as the number of negatives may be more than an int32 holds.
        "negative_similarity": (everything - positives)
        / float(max(num_pairs * (num_pairs - 1), 1)),
    }
