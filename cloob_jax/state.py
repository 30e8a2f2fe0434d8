"""What training changes from step to step."""

from typing import Any

import flax

Params = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """Everything that the next step depends on, besides its batch.

    Its fields hold arrays, and in the same places shapes or shardings.

    There is no random key: nothing in the step is random. The order and the crops of
    the examples are functions of the seed and of the examples seen.

    Attributes:
      step: steps done, int32.
      params: `model` (float32, whatever the compute type) and `objective` (its learned
        scalars, if any).
      batch_stats: running statistics of BatchNorm; empty for a ViT.
      opt_state: the optimiser's moments and counters.
      ema: moving average of `params` in float32, or None.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    def evaluated(self) -> Params:
        """The model parameters to evaluate: the average where one is kept."""
        return (self.params if self.ema is None else self.ema)["model"]
