"""What an evaluator is: it gets an embedder, never a model, a state or a mesh."""

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from cloob_jax.data.pictures import Pictures
from cloob_jax.evaluators.embedder import Embedder

Figure = float | np.ndarray


@runtime_checkable
class Evaluator(Protocol):
    """Measures something of a pair of encoders on a data set."""

    @property
    def task(self) -> str:
        """CLIP_benchmark's name of it."""
        ...

    @property
    def dataset(self) -> Pictures:
        """On which it is measured."""
        ...

    def run(self, embedder: Embedder) -> Iterable[tuple[str, Figure]]:
        """Yields figures, under CLIP_benchmark's names, and arrays."""
        ...

    def cells(self, figures: Mapping[str, float]) -> dict[str, str]:
        """What a person reads of the figures: the header of a column and its cell.

        The first column's header says what was done, its cell on which data set.
        """
        ...
