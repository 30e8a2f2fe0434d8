"""How fast a run is, how much of it is waiting for data, and how long it will take."""

import contextlib
import time
from collections.abc import Iterator

_SMOOTHING = 0.95  # of the step time that the estimate of the end rests on


class Meter:
    """Counts steps between two lines of the log."""

    def __init__(self, batch_size: int, seconds_at_peak: float | None = None):
        """Starts the first interval.

        Args:
          batch_size: images a step.
          seconds_at_peak: what a step would take were MFU 1; None: it is not known.
        """
        self._batch_size, self._seconds_at_peak = batch_size, seconds_at_peak
        self._step_seconds: float | None = None
        self._is_warm = False
        self.restart()

    def restart(self) -> None:
        """Starts a new interval, after a line or after something that is no step."""
        self._began = self._last = time.monotonic()
        self._waited, self._steps = 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Times the wait for a batch."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def count(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self._steps += 1
        if not self._is_warm:
            # The first step was compiled too.
            self._is_warm = True
        elif self._step_seconds is None:
            self._step_seconds = seconds
        else:
            self._step_seconds *= _SMOOTHING
            self._step_seconds += (1 - _SMOOTHING) * seconds

    def read(self) -> dict[str, float]:
        """The interval so far: images a second, the share spent waiting, and MFU.

        The latter is the share of the chips' peak that the model's FLOPs make (PaLM,
        Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
        """
        elapsed = max(time.monotonic() - self._began, 1e-9)
        values = {
            "samples_per_second": self._steps * self._batch_size / elapsed,
            "data_wait_fraction": self._waited / elapsed,
        }
        if self._seconds_at_peak is not None:
            values["mfu"] = self._steps * self._seconds_at_peak / elapsed
        return values

    def seconds_left(self, steps: int) -> float | None:
        """An estimate of how long `steps` more take; None where there is no ground."""
        return None if self._step_seconds is None else steps * self._step_seconds
