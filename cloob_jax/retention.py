"""Which checkpoints stay."""

from collections.abc import Mapping, Sequence
from typing import Any

from orbax.checkpoint import checkpoint_managers


class Rule(checkpoint_managers.PreservationPolicy):
    """The latest, every nth, and the best stay; as Orbax asks for it."""

    def __init__(self, keep: int, keep_every: int | None, scores: Mapping[int, float]):
        """Sets the rule.

        Args:
          keep: how many of the latest stay.
          keep_every: steps whose multiples stay for ever; None: none do.
          scores: of evaluated steps, which may grow: the best of those that are there
            stays, of equals the latest.
        """
        self._keep, self._keep_every, self._scores = keep, keep_every, scores

    def staying(self, steps: Sequence[int]) -> set[int]:
        """Which of the steps stay."""
        found = set(sorted(steps)[-self._keep :])
        if self._keep_every is not None:
            found |= {step for step in steps if step % self._keep_every == 0}
        scored = [step for step in steps if step in self._scores]
        if scored:
            found.add(max(scored, key=lambda step: (self._scores[step], step)))
        return found

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        """The same in Orbax's words."""
        del context
        staying = self.staying([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in staying for checkpoint in checkpoints]
