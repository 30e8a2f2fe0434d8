"""Zero-shot classification by prompts, as CLIP does it (Radford et al. 2021, 3.1.4).

The prompts of a class are embedded and averaged; no retrieval is used at inference
(CLOOB's published evaluation does not either).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cloob_jax import metrics
from cloob_jax.data import class_words
from cloob_jax.data.labelled import LabelledSet
from cloob_jax.evaluators import figures
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Figure


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Zero-shot top-1, top-5 and mean recall per class on one labelled set."""

    dataset: LabelledSet

    task = "zeroshot_classification"

    def run(self, embedder: Embedder) -> Iterator[tuple[str, Figure]]:
        """Yields `acc1`, `acc5` (where there are more than 5 classes) and
        `mean_per_class_recall`, CLIP_benchmark's names, between 0 and 1, each with a
        95 % interval, and `per_class_recall`, NaN where a class does not occur.

        They are those of the first prompt set; of another their names end in its name.
        """
        embeds, notes = embedder.pictures(self.dataset)
        labels = np.array(notes, np.int64)
        for number, (name, templates) in enumerate(self.dataset.prompt_sets.items()):
            ending = f"_{name}" if number else ""
            scores = embeds @ classifier(self.dataset.class_names, templates, embedder)
            hits = metrics.top_k_hits(scores, labels, 1)
            yield from figures.share(f"acc1{ending}", hits)
            if scores.shape[1] > 5:
                top_5 = metrics.top_k_hits(scores, labels, 5)
                yield from figures.share(f"acc5{ending}", top_5)
            yield from figures.share(f"mean_per_class_recall{ending}", hits, labels)
            recalls = np.full(scores.shape[1], np.nan)
            present, means = metrics.group_means(hits, labels)
            recalls[present] = means
            yield f"per_class_recall{ending}", recalls

    def cells(self, found: Mapping[str, float]) -> dict[str, str]:
        """See `Evaluator`."""
        num_classes = len(self.dataset.class_names)
        return {
            "zero-shot": self.dataset.name,
            "images": str(len(self.dataset)),
            "classes": str(num_classes),
            "chance %": f"{100 / num_classes:.1f}",
            "top-1 % (95 % interval)": figures.cell_with_interval(found, "acc1"),
            "top-5 %": figures.cell(found, "acc5"),
            "per class %": figures.cell(found, "mean_per_class_recall"),
            "one template %": figures.cell(found, "acc1_single_template"),
        }


def classifier(
    class_names: Sequence[str], templates: Sequence[str], embedder: Embedder
) -> Float[np.ndarray, "d classes"]:
    """One unit vector a class: its prompts' embeddings, averaged and normalised."""
    prompts = [
        class_words.fill(text, name) for name in class_names for text in templates
    ]
    embeds = embedder.texts(prompts)
    means = embeds.reshape(len(class_names), len(templates), -1).mean(axis=1)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).T
