"""SIGTERM and control-C as a wish to stop, which the loop grants at a safe place."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


class Interrupted(Exception):
    """Work without a state of its own was given up, because the run is to stop."""


class Stop:
    """Watches for the signals while entered.

    The first signal sets `requested`; the second one does what it does elsewhere, for
    those who do not want to wait.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def interrupts(
        self, function: Callable[[_Input], _Output]
    ) -> Callable[[_Input], _Output]:
        """`function`, raising `Interrupted` instead once stopping is wished for."""

        def checked(value: _Input) -> _Output:
            if self.requested:
                raise Interrupted
            return function(value)

        return checked

    def _request(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
