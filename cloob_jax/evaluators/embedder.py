"""A pair of encoders as evaluators see it: texts and data sets in, unit vectors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cloob_jax.data.pictures import Pictures, batches
from cloob_jax.embedding import Embed
from cloob_jax.tokenizer import Tokenizer


class Embedder:
    """Embeds texts and data sets; the pictures of a data set once, for all evaluators.

    Attributes:
      embed_images: images uint8 `[b, h, w, 3]` to unit vectors `[b, d]`.
      embed_texts: tokens int32 `[b, l]` to unit vectors `[b, d]`.
      image_size: pixels on a side, of the image encoder.
    """

    def __init__(
        self,
        embed_images: Embed,
        embed_texts: Embed,
        *,
        tokenizer: Tokenizer,
        image_size: int,
        batch_size: int,
    ):
        """Of one state of the encoders.

        Args:
          embed_images: see above.
          embed_texts: see above.
          tokenizer: of the text encoder.
          image_size: see above.
          batch_size: pictures read at a time.
        """
        self.embed_images, self.embed_texts = embed_images, embed_texts
        self.image_size = image_size
        self._tokenizer, self._batch_size = tokenizer, batch_size
        self._pictures: dict[Pictures, tuple[np.ndarray, list]] = {}

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Texts as unit vectors."""
        return self.embed_texts(self._tokenizer(list(texts)))

    def pictures(self, dataset: Pictures) -> tuple[Float[np.ndarray, "n d"], list[Any]]:
        """All pictures of a data set as unit vectors, and what it says of each.

        Raises:
          UserError: a picture that cannot be decoded; an evaluation leaves none out.
        """
        if dataset not in self._pictures:
            embeds, notes = [], []
            for images, found in batches(
                dataset, batch_size=self._batch_size, image_size=self.image_size
            ):
                embeds.append(self.embed_images(images))
                notes += found
            self._pictures[dataset] = np.concatenate(embeds), notes
        return self._pictures[dataset]
