"""What the embeddings look like: the figures by which one sees explaining-away."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from cloob_jax import geometry
from cloob_jax.data import pictures
from cloob_jax.data.captioned import CaptionedSet
from cloob_jax.errors import UserError
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Figure

_MAX_PAIRS = 5000  # the figures compare all with all


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Eigenvalues, uniformity, alignment and retrieval of embedded pairs.

    Each picture with the first of its captions; of more than 5,000 pictures as many,
    evenly spaced. The embeddings are the encoders' own, not the retrieved ones.

    Attributes:
      dataset: the pairs.
      beta: the scaling of the Hopfield retrieval whose entropy is measured.
    """

    dataset: CaptionedSet
    beta: float

    task = "spectrum"

    def run(self, embedder: Embedder) -> Iterator[tuple[str, Figure]]:
        """Yields `num_pairs`; of `image` and `text` each `_effective_eigenvalues` (how
        many hold 99 % of the trace), `_effective_rank`, `_ajne` (grows with the number
        of pairs) and the array `_spectrum`; `pair_similarity` and
        `closest_other_similarity`, means; `modality_gap`; and, of the retrieval of each
        side from each, `QUERIES_by_STORED_entropy` in nats, at most ln `num_pairs`.
        """
        # A set that is small enough is the one that retrieval has embedded as well.
        images, captions = embedder.pictures(pictures.thinned(self.dataset, _MAX_PAIRS))
        texts = embedder.texts([some[0] for some in captions])
        count = len(images)
        if not np.isfinite(images).all() or not np.isfinite(texts).all():
            raise UserError(f"{self.dataset.name}: its embeddings are not all finite")
        sides = {"image": images, "text": texts}
        yield "num_pairs", float(count)
        for name, side in sides.items():
            spectrum = geometry.spectrum(side)
            effective = geometry.count_for_share(spectrum)
            yield f"{name}_effective_eigenvalues", float(effective)
            yield f"{name}_effective_rank", geometry.effective_rank(spectrum)
            yield f"{name}_ajne", geometry.ajne(side)
            yield f"{name}_spectrum", spectrum
        yield "pair_similarity", float(np.mean(np.sum(images * texts, axis=1)))
        if count > 1:
            others = geometry.closest_others(images, texts)
            yield "closest_other_similarity", float(np.mean(others))
        yield "modality_gap", geometry.modality_gap(images, texts)
        for queries, query_side in sides.items():
            for stored, stored_side in sides.items():
                entropy = geometry.retrieval_entropy(stored_side, query_side, self.beta)
                yield f"{queries}_by_{stored}_entropy", float(np.mean(entropy))

    def cells(self, found: Mapping[str, float]) -> dict[str, str]:
        """See `Evaluator`."""

        def both(name: str, digits: int) -> str:
            return " / ".join(
                f"{found[f'{side}_{name}']:.{digits}f}" for side in ("image", "text")
            )

        closest = found.get("closest_other_similarity", float("nan"))
        return {
            "spectrum (image / text)": self.dataset.name,
            "pairs": f"{found['num_pairs']:.0f}",
            "eigenvalues": both("effective_eigenvalues", 0),
            "rank": both("effective_rank", 1),
            "Ajne": both("ajne", 1),
            "pair / closest other": f"{found['pair_similarity']:.3f} / {closest:.3f}",
            "gap": f"{found['modality_gap']:.3f}",
            "entropy": both("by_image_entropy", 2),
        }
