"""What an evaluator is: it gets an embedder, never a model, a state or a mesh."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from cloob_jax.data.pictures import Pictures
from cloob_jax.evaluators.embedder import Embedder


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

    def run(self, embedder: Embedder) -> Iterable[tuple[str, float]]:
        """Yields figures under CLIP_benchmark's names."""
        ...
