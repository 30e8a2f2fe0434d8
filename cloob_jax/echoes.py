"""Pages that Orbax's threads would print after one of them has failed."""

import contextlib
import gc
import inspect
import sys
import time
from collections.abc import Iterator

_LAST_SECONDS = 0.2  # in which threads come to their ends


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing is printed of what only follows from an error that is raised anyway.

    When one of many files cannot be read or written, Orbax raises, and closes the event
    loop on which the threads of the others then want to tell that they are done.
    """
    before, echoes = sys.unraisablehook, []

    def hook(told: "sys.UnraisableHookArgs") -> None:
        if str(told.exc_value) == "Event loop is closed" or inspect.iscoroutine(
            told.object
        ):
            echoes.append(type(told.exc_value))
        else:
            before(told)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        gc.collect()
        if echoes:
            time.sleep(_LAST_SECONDS)
        sys.unraisablehook = before
