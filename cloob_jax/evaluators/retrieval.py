"""Retrieval of captions by images and of images by captions, each from the whole set.

An image with several captions is found by any of them, and any of them counts as found,
as in the field's papers and in CLIP_benchmark.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from cloob_jax import metrics
from cloob_jax.data.captioned import CaptionedSet
from cloob_jax.evaluators import figures
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Figure

_RECALLS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """R@1, R@5, R@10, mean and median rank in both directions on one captioned set."""

    dataset: CaptionedSet

    task = "zeroshot_retrieval"

    def run(self, embedder: Embedder) -> Iterator[tuple[str, Figure]]:
        """Yields `image_retrieval_recall@K` (of images, by captions), shares with their
        intervals, and `image_retrieval_mean_rank` and `median_rank`, the first rank
        being 1; then `text_retrieval_...` the same, of captions by images.
        """
        images, captions = embedder.pictures(self.dataset)
        numbers = np.arange(len(images))
        owners = np.repeat(numbers, [len(texts) for texts in captions])
        texts = embedder.texts([text for group in captions for text in group])
        directions = {
            "image": (texts, images, owners, numbers),
            "text": (images, texts, numbers, owners),
        }
        for found, sides in directions.items():
            ranks = metrics.match_ranks(*sides)
            for k in _RECALLS:
                name = f"{found}_retrieval_recall@{k}"
                yield from figures.share(name, ranks < k, clusters=sides[2])
            yield f"{found}_retrieval_mean_rank", float(np.mean(ranks) + 1)
            yield f"{found}_retrieval_median_rank", float(np.median(ranks) + 1)

    def cells(self, found: Mapping[str, float]) -> dict[str, str]:
        """See `Evaluator`."""
        row = {"retrieval": self.dataset.name, "images": str(len(self.dataset))}
        for label, name in (("to text", "text"), ("to image", "image")):
            first, fifth, tenth = (f"{name}_retrieval_recall@{k}" for k in _RECALLS)
            row[f"{label} R@1 %"] = figures.cell_with_interval(found, first)
            row[f"{label} R@5"] = figures.cell(found, fifth)
            row[f"{label} R@10"] = figures.cell(found, tenth)
        return row
