"""What embeddings look like: their spectrum, how evenly they lie, how pairs lie there.

The figures by which the CLOOB paper (Fürst et al. 2022, arXiv 2110.11316) shows
explaining-away, and two of its field. Pure functions of unit vectors, in float64 where
sums are long.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

Embeds = Float[np.ndarray, "n d"]

_ROWS = 1024  # of a matrix of inner products at a time


def spectrum(embeds: Embeds) -> Float[np.ndarray, " d"]:
    """The eigenvalues of the embeddings' covariance, largest first, none below 0."""
    centred = embeds.astype(np.float64) - embeds.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred / len(embeds)
    return np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0)


def count_for_share(eigenvalues: Float[np.ndarray, " d"], share: float = 0.99) -> int:
    """How many leading eigenvalues sum up to that share of all; 0 if all are 0.

    The paper's number of effective eigenvalues, with a share of 99 %.
    """
    sums = np.cumsum(eigenvalues)
    if not sums[-1] > 0:
        return 0
    # Rounding may leave the whole sum below its share of one.
    return int(np.sum(sums < share * sums[-1])) + 1


def effective_rank(eigenvalues: Float[np.ndarray, " d"]) -> float:
    """exp of the entropy of the eigenvalues' shares (Roy and Vetterli 2007, eq. 3).

    Between 1, where one direction holds all variance, and d; 0 if there is none.
    """
    total = eigenvalues.sum()
    if not total > 0:
        return 0.0
    shares = eigenvalues[eigenvalues > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def ajne(embeds: Embeds) -> float:
    """Ajne's statistic of uniformity on the sphere (Prentice 1978, for d dimensions).

    n / 4 - sum_{i < j} arccos(x_i.x_j) / (n pi): 1/4 is expected of n points that lie
    evenly, n / 4 where all lie in one place. It grows with n: report n beside it.
    """
    count = len(embeds)
    total = 0.0
    for first, products in _inner_products(embeds, embeds):
        angles = np.arccos(np.clip(products, -1, 1))
        rows = np.arange(len(products))
        angles[rows, first + rows] = 0  # of each with itself, which rounding makes > 0
        total += angles.sum(dtype=np.float64)
    return float(count / 4 - total / 2 / (count * math.pi))


def closest_others(
    images: Embeds, texts: Embeds
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each image the largest inner product with another pair's text, and reversed.

    Beside the inner products of the pairs themselves they show alignment; -inf where
    there is one pair only.
    """
    by_text = np.full(len(texts), -np.inf, np.result_type(images, texts))
    by_image = by_text.copy()
    for first, products in _inner_products(images, texts):
        rows = np.arange(len(products))
        products[rows, first + rows] = -np.inf
        by_image[first : first + len(products)] = products.max(axis=1)
        by_text = np.maximum(by_text, products.max(axis=0))
    return by_image, by_text


def modality_gap(images: Embeds, texts: Embeds) -> float:
    """The distance of the two sides' means (Liang et al. 2022, arXiv 2203.02053)."""
    means = (side.mean(axis=0, dtype=np.float64) for side in (images, texts))
    return float(np.linalg.norm(np.subtract(*means)))


def retrieval_entropy(
    stored: Embeds, queries: Embeds, beta: float
) -> Float[np.ndarray, " n"]:
    """The entropy in nats of each query's softmax(beta q.s_j) over all that is stored.

    Its exponential is how many patterns a retrieval of CLOOB's Hopfield network mixes;
    between 0 and ln of the number stored, which is to be reported beside it.
    """
    entropies = []
    for _, products in _inner_products(queries, stored):
        logits = beta * products.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        total = weights.sum(axis=1)
        entropies.append(np.log(total) - (weights * logits).sum(axis=1) / total)
    return np.concatenate(entropies)


def _inner_products(
    rows: Embeds, columns: Embeds
) -> Iterator[tuple[int, Float[np.ndarray, "b n"]]]:
    """`(first row, its and the next rows' inner products with all columns)`."""
    for first in range(0, len(rows), _ROWS):
        yield first, rows[first : first + _ROWS] @ columns.T
