"""Contrastive objectives on the embeddings themselves: InfoLOOB, InfoNCE, sigmoid.

Embeddings are L2-normalised and float32 (or wider). The N rows of the image and of the
text side are pairs; every other row of the batch is a negative. All products are taken
at the highest precision: bfloat16 inputs cost about 2 % of the gradient.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cloob_jax.errors import UserError

Metrics = dict[str, Float[Array, ""]]
Scalar = Float[Array, ""] | float


def infoloob(
    image_embeds: Float[Array, "b d"], text_embeds: Float[Array, "b d"], inv_tau: Scalar
) -> tuple[Float[Array, ""], Metrics]:
    """InfoLOOB without retrieval; scale: tau times the sum of the two sides.

    The scale is `cloob`'s, so that the two differ by the retrieval alone.
    """
    image_side = infoloob_side(image_embeds, text_embeds, inv_tau)
    text_side = infoloob_side(text_embeds, image_embeds, inv_tau)
    return image_side + text_side, {}


def clip(
    image_embeds: Float[Array, "b d"], text_embeds: Float[Array, "b d"], inv_tau: Scalar
) -> tuple[Float[Array, ""], Metrics]:
    """CLIP's symmetric InfoNCE (Radford et al. 2021, figure 3).

    Scale: the mean of the two sides' cross entropies, in nats, without a factor tau.
    """
    image_side = infonce_side(image_embeds, text_embeds, inv_tau)
    text_side = infonce_side(text_embeds, image_embeds, inv_tau)
    return (image_side + text_side) / 2, {}


def siglip(
    image_embeds: Float[Array, "b d"],
    text_embeds: Float[Array, "b d"],
    inv_tau: Scalar,
    bias: Scalar,
) -> tuple[Float[Array, ""], Metrics]:
    """SigLIP's pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, algorithm 1).

    Scale: the mean over images of the sum over texts of -ln sigmoid(+-logit), where
    the sign is + for pairs and - for negatives.
    """
    logits = inv_tau * similarities(image_embeds, text_embeds) + bias
    signed = jnp.where(pair_mask(len(image_embeds)), logits, -logits)
    return -jnp.mean(jnp.sum(jax.nn.log_sigmoid(signed), axis=1)), {}


def infoloob_side(
    anchors: Float[Array, "b d"], candidates: Float[Array, "b d"], inv_tau: Scalar
) -> Float[Array, ""]:
    """One side of InfoLOOB: row i of `candidates` is the positive of anchor i.

    CLOOB, eq. (1) (Fürst et al. 2022, arXiv 2110.11316), one of its two terms:
    -mean_i ln[exp(a_i.c_i / tau) / sum_{j != i} exp(a_i.c_j / tau)], here times tau,
    as in the authors' code: tau leaves the positives' gradient alone.

    Raises:
      UserError: if the batch has a single pair, which has no negatives.
    """
    if len(anchors) < 2:
        raise UserError(
            "InfoLOOB needs a batch of at least 2 pairs, for each pair's negatives are "
            f"the others, but got {len(anchors)}; raise batch_size"
        )
    negatives = jax.nn.logsumexp(
        inv_tau * similarities(anchors, candidates),
        axis=1,
        where=~pair_mask(len(anchors)),
    )
    return jnp.mean(negatives / inv_tau - pair_similarities(anchors, candidates))


def infonce_side(
    anchors: Float[Array, "b d"], candidates: Float[Array, "b d"], inv_tau: Scalar
) -> Float[Array, ""]:
    """One side of InfoNCE: the cross entropy of finding each anchor's positive.

    -mean_i ln[exp(a_i.c_i / tau) / sum_j exp(a_i.c_j / tau)], in nats, no factor tau.
    """
    all_pairs = jax.nn.logsumexp(inv_tau * similarities(anchors, candidates), axis=1)
    return jnp.mean(all_pairs - inv_tau * pair_similarities(anchors, candidates))


def similarities(
    rows: Float[Array, "m d"], columns: Float[Array, "n d"]
) -> Float[Array, "m n"]:
    """Inner products of all rows with all columns, at the highest precision."""
    return jnp.einsum("md,nd->mn", rows, columns, precision=jax.lax.Precision.HIGHEST)


def pair_similarities(
    rows: Float[Array, "b d"], columns: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """Inner products of row i with column i, no part of which leaves its device."""
    return jnp.sum(rows * columns, axis=1)


def pair_mask(num_pairs: int) -> Bool[Array, "b b"]:
    """True where row and column are a pair: on the diagonal."""
    return jnp.eye(num_pairs, dtype=bool)
