"""What all commands do with mistakes: one line on stderr, and status 2."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from cloob_jax.errors import UserError


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the command with one line."""
    print(f"cloob_jax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def clear_errors(stays: str) -> Iterator[None]:
    """Turns what the user can mend into one line, whatever raises it.

    Args:
      stays: what is not lost, for errors that come in the middle of the work.
    """
    try:
        yield
    except UserError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a file that went away, a lost mount
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        fail(f"{where}{reason}; {stays}")
    except KeyboardInterrupt:
        fail(f"interrupted; {stays}", 130)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the command, naming what is wrong with its arguments."""
        fail(f"{message}; see {self.prog} --help")
