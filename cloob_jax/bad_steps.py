"""Steps whose loss or gradient is not finite, and losses that jump: told and listed.

`train_step` skips what is not finite; here it is counted, and it is decided when there
was too much of it.
"""

import collections
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloob_jax import writers

_HISTORY = 200  # steps whose metrics are remembered
_FEWEST = 20  # losses before one can stand out among them
_WINDOW = 100  # losses that one is compared with
# In standard deviations, were losses normally distributed around their median: 1.4826
# times the median absolute deviation is one.
_SPIKE = 8.0
_LEAST_SHARE = 0.1  # of the median that a spike rises, for losses that hardly vary


class BadSteps:
    """Bad steps of a run, listed in `bad_steps.jsonl` as they are met.

    The file is the state: a run that goes on reads it up to where it goes on from.

    Attributes:
      path: of the list.
      in_a_row: steps that were skipped, up to the last.
      is_lost: the parameters are no longer finite.
      skipped: so far.
      spikes: so far.
      history: metrics of the last steps.
    """

    def __init__(self, workdir: Path, step: int, writes: bool):
        """Goes on after `step`.

        Args:
          workdir: the run directory.
          step: what a killed run met later is forgotten, since this one meets it again.
          writes: whether this process does.
        """
        self.path, self._writes = workdir / "bad_steps.jsonl", writes
        self.in_a_row = self.skipped = self.spikes = 0
        self.is_lost = False
        self.history: collections.deque[dict[str, float]] = collections.deque(
            maxlen=_HISTORY
        )
        self._losses: collections.deque[float] = collections.deque(maxlen=_WINDOW)
        if not (writes and self.path.exists()):
            return
        rows = writers.read_json_lines(self.path)
        kept = [row for row in rows if row.get("step", step + 1) <= step]
        writers.write_text(self.path, "".join(json.dumps(r) + "\n" for r in kept))
        reasons = collections.Counter(row.get("reason") for row in kept)
        self.skipped, self.spikes = reasons["not finite"], reasons["loss spike"]

    def check(self, step: int, values: Mapping[str, float]) -> str | None:
        """Takes in the metrics of a step.

        Returns:
          What is wrong: `not finite`, `parameters not finite`, `loss spike` or None.
        """
        self.history.append({"step": float(step), **values})
        loss = values["loss"]
        if not (math.isfinite(loss) and math.isfinite(values["grad_norm"])):
            self.in_a_row += 1
            self.skipped += 1
            return "not finite"
        self.in_a_row = 0
        if not math.isfinite(values["param_norm"]):
            # The optimiser has made of finite gradients what is not; no step mends it.
            self.is_lost = True
            return "parameters not finite"
        is_spike = self._is_spike(loss)
        self._losses.append(loss)
        self.spikes += is_spike
        return "loss spike" if is_spike else None

    def usual_loss(self) -> float:
        """The median of the last losses."""
        return statistics.median(self._losses)

    def _is_spike(self, loss: float) -> bool:
        if len(self._losses) < _FEWEST:
            return False
        usual = self.usual_loss()
        deviation = statistics.median(abs(other - usual) for other in self._losses)
        rise = max(_SPIKE * 1.4826 * deviation, _LEAST_SHARE * abs(usual))
        return loss > usual + rise

    def write(self, step: int, reason: str, records: Sequence[str]) -> None:
        """Writes a line with the metrics and the records of a bad step."""
        if not self._writes:
            return
        row = {
            "step": step,
            "reason": reason,
            "metrics": as_text(self.history[-1]),
            "records": list(records),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def as_text(values: Mapping[str, float]) -> dict[str, str]:
    """Numbers as text, since JSON has no word for what is not finite."""
    return {name: f"{value:.9g}" for name, value in values.items()}
