"""Traces of some steps, for TensorBoard's profiler or Perfetto."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax

from cloob_jax.errors import UserError

_SIGNAL = signal.SIGUSR1
_STEPS = 5  # that a signal asks for


def parse(text: str | None) -> range:
    """The steps of `--profile_steps=100:110`: 100 to 109.

    Raises:
      UserError: it says something else.
    """
    if not text:
        return range(0)
    first, _, end = text.partition(":")
    try:
        steps = range(int(first), int(end))
    except ValueError:
        steps = range(0)
    if not steps or steps.start < 1:
        raise UserError(
            f"--profile_steps={text}: expected FIRST:END, such as 100:110 for the "
            "steps 100 to 109"
        )
    return steps


class Profiler:
    """Watches for the steps, and for SIGUSR1, while entered."""

    def __init__(self, steps: range, directory: Path, say: Callable[[str], None]):
        """Prepares to watch.

        Args:
          steps: to trace; a signal asks for the next five.
          directory: of the run's traces.
          say: tells a person where a trace is.
        """
        self._steps, self._directory, self._say = steps, directory, say
        self._is_wished = self._is_tracing = False
        self._previous: Any = None

    def __enter__(self) -> "Profiler":
        self._previous = signal.signal(_SIGNAL, self._wish)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(_SIGNAL, self._previous)
        if self._is_tracing:
            jax.profiler.stop_trace()

    def begin(self, step: int) -> None:
        """Before a step is dispatched."""
        if self._is_wished and not self._is_tracing:
            self._is_wished, self._steps = False, range(step, step + _STEPS)
        if step in self._steps and not self._is_tracing:
            jax.profiler.start_trace(self._directory)
            self._is_tracing, self._steps = True, range(step, self._steps.stop)

    def end(self, step: int, results: Any) -> None:
        """After it was: where it is the last one, waits for `results`."""
        if self._is_tracing and step + 1 >= self._steps.stop:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
            self._is_tracing = False
            self._say(
                f"steps {self._steps.start} to {step} traced in {self._directory}"
            )

    def _wish(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_wished = True
