"""What an evaluator is: it gets two functions, never a model, a state or a mesh."""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import numpy as np

Embed = Callable[[np.ndarray], np.ndarray]
"""Images uint8 `[b, h, w, 3]`, or tokens int32 `[b, l]`, to unit vectors `[b, d]`."""


@runtime_checkable
class Evaluator(Protocol):
    """Measures something of a pair of encoders."""

    task: str  # CLIP_benchmark's name of the task

    def run(
        self, embed_images: Embed, embed_texts: Embed
    ) -> Iterable[tuple[str, float]]:
        """Yields figures under CLIP_benchmark's names."""
        ...
