"""Pieces of far files, on the local disk while they are in use.

All processes of a machine share them: whoever needs a piece first fetches it, under a
lock, and the others wait. When there are too many, the oldest go. A process that has
one open can read it to its end.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cloob_jax import user_cache
from cloob_jax.errors import UserError

MAX_BYTES = 16 << 30  # of all copies, if the disk has twice as much left
_STALE = 3600  # seconds after which nobody is still writing a copy
_NUM_LOCKS = 256


class Piece:
    """A range of a file; copied once, by whichever thread or process is first."""

    def __init__(
        self,
        identity: str,
        start: int,
        end: int,
        parts: Callable[[int, int], Iterable[bytes]],
    ):
        """Copies nothing yet.

        Args:
          identity: of the file, its place and version.
          start: of the range.
          end: of the range.
          parts: fetches a range, in parts.
        """
        self.start, self.end, self._parts = start, end, parts
        digest = hashlib.sha256(f"{identity} {start} {end}".encode())
        self._name = digest.hexdigest()[:32]
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def read(self, start: int, end: int) -> bytes:
        """Some of it, from the copy, which is made if nobody has."""
        return os.pread(self.copy(), end - start, start - self.start)

    def copy(self) -> int:
        """Makes a copy if nobody has, and gives its descriptor.

        Raises:
          OSError: it cannot be fetched.
          UserError: there is no room for it.
        """
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._found()
            if self._descriptor is None:
                self._descriptor = self._fetched()
            return self._descriptor

    def _found(self) -> int | None:
        path = user_cache.directory("pieces") / self._name
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None

    def _fetched(self) -> int:
        folder = user_cache.directory("pieces")
        # A fixed number of locks, so that nobody has to clean up.
        with _locked(folder, int(self._name, 16) % _NUM_LOCKS):
            found = self._found()  # while this one waited, another may have made it
            return self._fetch(folder) if found is None else found

    def _fetch(self, folder: Path) -> int:
        size = self.end - self.start
        try:
            with _locked(folder, _NUM_LOCKS):
                _make_room(folder, size)
                file = tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False)
                file.truncate(size)  # so that others count it
        except OSError as error:
            raise _no_room(folder, error) from None
        with file:
            try:
                for part in self._parts(self.start, self.end):
                    _write(file.fileno(), part, folder)
                os.replace(file.name, folder / self._name)
            except BaseException:
                os.unlink(file.name)
                raise
            return os.dup(file.fileno())

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _write(descriptor: int, part: bytes, folder: Path) -> None:
    view = memoryview(part)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise _no_room(folder, error) from None


def _no_room(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: {error.strerror}; what is read from afar needs room there, set "
        "XDG_CACHE_HOME to a folder that has some gigabytes"
    )


@contextlib.contextmanager
def _locked(folder: Path, number: int) -> Iterator[None]:
    with open(folder / f".lock-{number:03d}", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_room(folder: Path, size: int) -> None:
    """Removes the oldest copies until one of this size has its place."""
    copies, used = [], 0
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # it has just got its name
            status = entry.stat()
            used += status.st_size
            is_left = time.time() - status.st_mtime > _STALE
            if not entry.name.startswith(".") or (status.st_size and is_left):
                copies.append((status.st_mtime, status.st_size, entry.path))
    limit = min(MAX_BYTES, (used + shutil.disk_usage(folder).free) // 2)
    for _, old, path in sorted(copies):
        if used + size <= limit:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        used -= old
