"""What all commands do with mistakes: one line on stderr, and status 2."""

import argparse
import contextlib
import errno
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from cloob_jax.errors import Outage, UserError

_PASSING = {errno.EIO, errno.ESTALE, errno.ENETUNREACH, errno.EHOSTUNREACH}


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the command with one line."""
    say(message)
    sys.exit(status)


def say(message: str) -> None:
    """Prints the one line that a command ends with."""
    # Names in files may hold anything, escape sequences of terminals included.
    words = "".join(c if c.isprintable() else " " for c in message).split()
    show(f"cloob_jax: {' '.join(words)}\n")


def show(text: str, stream: Any = None) -> None:
    """Writes to standard error, or `stream`, at once, if that is possible.

    No work ends because its terminal went away, or the disk of its log is full.
    """
    stream = stream or sys.stderr
    with contextlib.suppress(OSError):
        stream.write(text)
        stream.flush()


def last_words(error: BaseException, stays: str) -> tuple[str, int]:
    """The line and the exit status that stand for an exception.

    Args:
      error: what the user can mend, or anything else.
      stays: what is not lost, for errors that come in the middle of the work.
    """
    if isinstance(error, UserError):
        return str(error), 1 if isinstance(error, Outage) else 2
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {stays}", 130
    if isinstance(error, OSError):  # a full disk, a file that went away, a lost mount
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        return f"{where}{reason}; {stays}", 1 if _may_pass(error) else 2
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first}; {stays}", 1


def _may_pass(error: OSError) -> bool:
    """Whether it may be over at the next try, without anybody's doing."""
    kinds = (ChildProcessError, TimeoutError, ConnectionError)
    return isinstance(error, kinds) or error.errno in _PASSING


@contextlib.contextmanager
def clear_errors(stays: str) -> Iterator[None]:
    """Turns what the user can mend into one line, whatever raises it.

    Args:
      stays: see `last_words`.
    """
    try:
        yield
    except (UserError, OSError, KeyboardInterrupt) as error:
        fail(*last_words(error, stays))


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back; afterwards they are a KeyboardInterrupt.

    For what has to come to its end. Only in the main thread, as signals are.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda n, _: came.append(n)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the command, naming what is wrong with its arguments."""
        fail(f"{message}; see {self.prog} --help")
