"""Zero-shot classification by prompts, as CLIP does it (Radford et al. 2021, 3.1.4).

The prompts of a class are embedded and averaged; no retrieval is used at inference
(CLOOB's published evaluation does not either).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from cloob_jax import metrics
from cloob_jax.data.labelled import LabelledSet
from cloob_jax.evaluators.embedder import Embedder


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Zero-shot top-1, top-5 and mean recall per class on one labelled set."""

    dataset: LabelledSet

    task = "zeroshot_classification"

    def run(self, embedder: Embedder) -> Iterator[tuple[str, float]]:
        """Yields `acc1`, `acc5` (where there are more than 5 classes) and
        `mean_per_class_recall`, CLIP_benchmark's names, between 0 and 1.
        """
        weights = classifier(self.dataset, embedder)
        embeds, notes = embedder.pictures(self.dataset)
        scores, labels = embeds @ weights, np.array(notes, np.int64)
        yield "acc1", metrics.top_k_accuracy(scores, labels, 1)
        if scores.shape[1] > 5:
            yield "acc5", metrics.top_k_accuracy(scores, labels, 5)
        recall = metrics.mean_per_class_recall(scores.argmax(axis=1), labels)
        yield "mean_per_class_recall", recall


def classifier(
    dataset: LabelledSet, embedder: Embedder
) -> Float[np.ndarray, "d classes"]:
    """One unit vector a class: its prompts' embeddings, averaged and normalised."""
    num_classes = len(dataset.class_names)
    prompts = [dataset.prompts(label) for label in range(num_classes)]
    embeds = embedder.texts([text for group in prompts for text in group])
    means = embeds.reshape(num_classes, len(dataset.templates), -1).mean(axis=1)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).T
