"""A pair of encoders as evaluators see it: texts and data sets in, vectors out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cloob_jax.data.pictures import Pictures, batches
from cloob_jax.embedding import EmbedImages, EmbedTexts
from cloob_jax.tokenizer import Tokenizer

Report = Callable[[str, int, int], None]
_MANY_TEXTS = 5000  # so many that a person would ask what is being done


class Embedder:
    """Embeds texts and data sets; the pictures of a data set once, for all evaluators.

    Attributes:
      embed_images: images uint8 `[b, h, w, 3]` to features `[b, f]`, what a linear
        probe sees, and unit vectors `[b, d]`.
      embed_texts: tokens int32 `[b, l]` to unit vectors `[b, d]`.
      image_size: pixels on a side, of the image encoder.
      report: tells a person how far something is.
    """

    def __init__(
        self,
        embed_images: EmbedImages,
        embed_texts: EmbedTexts,
        *,
        tokenizer: Tokenizer,
        image_size: int,
        batch_size: int,
        report: Report = lambda *_: None,
    ):
        """Of one state of the encoders.

        Args:
          embed_images: see above.
          embed_texts: see above.
          tokenizer: of the text encoder.
          image_size: see above.
          batch_size: pictures or texts read at a time.
          report: is told what is being done, such as a data set's name, how many of its
            pictures are done, and how many there are.
        """
        self.embed_images, self.embed_texts = embed_images, embed_texts
        self.image_size = image_size
        self._tokenizer, self._batch_size = tokenizer, batch_size
        self.report = report
        self._found: dict[Pictures, tuple[np.ndarray, np.ndarray, list]] = {}

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Texts as unit vectors."""
        parts = []
        for start in range(0, len(texts), self._batch_size):
            part = texts[start : start + self._batch_size]
            parts.append(self.embed_texts(self._tokenizer(list(part))))
            if len(texts) > _MANY_TEXTS:
                self.report("texts", start + len(part), len(texts))
        return np.concatenate(parts)

    def pictures(self, dataset: Pictures) -> tuple[Float[np.ndarray, "n d"], list[Any]]:
        """All pictures of a data set as unit vectors, and what it says of each.

        Raises:
          UserError: a picture that cannot be decoded; an evaluation leaves none out.
        """
        _, embeds, notes = self._embed(dataset)
        return embeds, notes

    def features(self, dataset: Pictures) -> tuple[Float[np.ndarray, "n f"], list[Any]]:
        """What a linear probe sees of all pictures, and what the data set says of each.

        Raises:
          UserError: see `pictures`.
        """
        features, _, notes = self._embed(dataset)
        return features, notes

    def _embed(self, dataset: Pictures) -> tuple[np.ndarray, np.ndarray, list]:
        if dataset not in self._found:
            features, embeds, notes = [], [], []
            for images, found in batches(
                dataset, batch_size=self._batch_size, image_size=self.image_size
            ):
                parts = self.embed_images(images)
                features.append(parts[0])
                embeds.append(parts[1])
                notes += found
                self.report(dataset.name, len(notes), len(dataset))
            both = np.concatenate(features), np.concatenate(embeds)
            self._found[dataset] = *both, notes
        return self._found[dataset]
