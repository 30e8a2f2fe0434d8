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
from cloob_jax.data.pipeline import labelled_batches
from cloob_jax.evaluators.protocol import Embed
from cloob_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Zero-shot top-1, top-5 and mean recall per class on one labelled set."""

    dataset: LabelledSet
    tokenizer: Tokenizer
    image_size: int
    batch_size: int

    task = "zeroshot_classification"

    def run(
        self, embed_images: Embed, embed_texts: Embed
    ) -> Iterator[tuple[str, float]]:
        """Yields `acc1`, `acc5` (where there are more than 5 classes) and
        `mean_per_class_recall`, CLIP_benchmark's names, between 0 and 1.
        """
        weights = classifier(self.dataset, self.tokenizer, embed_texts)
        scores, labels = [], []
        for images, batch_labels in labelled_batches(
            self.dataset, batch_size=self.batch_size, image_size=self.image_size
        ):
            scores.append(embed_images(images) @ weights)
            labels.append(batch_labels)
        all_scores, all_labels = np.concatenate(scores), np.concatenate(labels)
        yield "acc1", metrics.top_k_accuracy(all_scores, all_labels, 1)
        if all_scores.shape[1] > 5:
            yield "acc5", metrics.top_k_accuracy(all_scores, all_labels, 5)
        predictions = all_scores.argmax(axis=1)
        recall = metrics.mean_per_class_recall(predictions, all_labels)
        yield "mean_per_class_recall", recall


def classifier(
    dataset: LabelledSet, tokenizer: Tokenizer, embed_texts: Embed
) -> Float[np.ndarray, "d classes"]:
    """One unit vector a class: its prompts' embeddings, averaged and normalised."""
    num_classes = len(dataset.class_names)
    prompts = [dataset.prompts(label) for label in range(num_classes)]
    embeds = embed_texts(tokenizer([text for group in prompts for text in group]))
    means = embeds.reshape(num_classes, len(dataset.templates), -1).mean(axis=1)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).T
