"""What a process is doing at the moment, and how long it has done what so far."""

import collections
import contextlib
import statistics
import time
from collections.abc import Iterator

import numpy as np

_REMEMBERED = 100  # steps whose median is what a step usually takes
_FEWEST = 5  # steps before there is such a thing
_WORDS = {
    "start": "starting",
    "step": "computing",
    "data": "waiting for data",
    "exchange": "waiting for the other processes",
    "save": "saving",
    "evaluate": "evaluating",
}


class Pulse:
    """Written by the main thread, read by others.

    Attributes:
      step: the last step that was started.
      phase: what goes on: `start`, `step`, `data`, `exchange`, `save` or `evaluate`.
      records: numbers of the records of the batch in work, as far as they are ours.
    """

    def __init__(self) -> None:
        """Begins with `start`."""
        self.step, self.phase = 0, "start"
        self.records = np.zeros(0, np.int64)
        self._seconds: dict[str, float] = {}
        self._steps: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._entered = self._sign = self._step_began = time.monotonic()
        self._is_ordinary = False

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Something else than the phase before, which goes on afterwards."""
        before = self.phase
        self.turn_to(phase)
        try:
            yield
        finally:
            self.turn_to(before)

    def turn_to(self, phase: str) -> None:
        """The phase before is over."""
        now = time.monotonic()
        self._seconds[self.phase] = self.seconds()[self.phase]
        self.phase, self._entered, self._sign = phase, now, now
        if phase not in ("step", "data", "exchange"):
            self._is_ordinary = False

    def sign(self) -> None:
        """Something within the phase is done."""
        self._sign = time.monotonic()

    def begin_step(self, step: int, records: np.ndarray) -> None:
        """The step before is over, as far as this process had to do with it."""
        now = time.monotonic()
        if self._is_ordinary:
            self._steps.append(now - self._step_began)
        self.step, self.records = step, records
        self._step_began, self._is_ordinary = now, True
        self.sign()

    def __str__(self) -> str:
        return (
            f"{_WORDS[self.phase]} in step {self.step} for {self.silent_seconds():.0f}s"
        )

    def silent_seconds(self) -> float:
        """Since the last sign that something was done."""
        return time.monotonic() - self._sign

    def step_seconds(self) -> float:
        """Since the step in work began; 0 where it is no ordinary one."""
        return time.monotonic() - self._step_began if self._is_ordinary else 0.0

    def usual_seconds(self) -> float | None:
        """What a step took, in the median of those with nothing else in them."""
        if len(self._steps) < _FEWEST:
            return None
        return statistics.median(list(self._steps))

    def seconds(self) -> dict[str, float]:
        """How long each phase has taken so far; together, the time since the start."""
        now, past = time.monotonic(), dict(self._seconds)
        past[self.phase] = past.get(self.phase, 0.0) + now - self._entered
        return past
