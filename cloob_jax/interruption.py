"""SIGTERM and control-C as a wish to stop, which the loop grants at a safe place."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


_SAME_WISH_SECONDS = 2.0


class Interrupted(Exception):
    """Work without a state of its own was given up, because the run is to stop."""


class Stop:
    """Watches for the signals while entered.

    The first signal sets `requested`; a later one does what it does elsewhere, for
    those who do not want to wait. One within two seconds is the same wish: `timeout`
    and `make` pass on what the terminal has sent to the whole group already.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        """Prepares to watch.

        Args:
          agree: whether any process of the run says yes, so that all do the same.
        """
        self._agree = agree
        self._since: float | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self._since is not None

    def request(self) -> None:
        """Asks to stop, as the first signal does; from any thread."""
        self._since = self._since or time.monotonic()

    def __enter__(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def interrupts(
        self, function: Callable[[_Input], _Output]
    ) -> Callable[[_Input], _Output]:
        """`function`, raising `Interrupted` once any process was asked to stop."""

        def checked(value: _Input) -> _Output:
            if self._agree(self.requested):
                raise Interrupted
            return function(value)

        return checked

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._since > _SAME_WISH_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
