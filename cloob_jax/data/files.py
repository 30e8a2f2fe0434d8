"""Files of which ranges are read here and there."""

import functools
import io
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

_MAX_DESCRIPTORS = 512  # half of what a process may usually have open
_AHEAD_STEP = 1 << 17  # bytes; kernels cut a longer wish short
PART = 8 << 20  # bytes of one request: latency hardly counts, nor does memory
_NUM_THREADS = 8  # of a process, that read ahead


@runtime_checkable
class File(Protocol):
    """A file of which ranges are read; safe in threads, picklable.

    Attributes:
      name: its last part.
      size: in bytes.
      identity: its place, and what would change with its content.
      version: the latter alone.
    """

    name: str
    size: int
    identity: str
    version: str

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from an offset on, fewer at the end of the file."""
        ...

    def expect(self, start: int, end: int) -> None:
        """Begins to bring a range nearer, most of which will be read soon."""
        ...


class LocalFile:
    """A file that the operating system reads, and keeps in its cache."""

    _room = threading.BoundedSemaphore(_MAX_DESCRIPTORS)
    _descriptor: int

    def __init__(self, path: Path):
        """Looks at the file as it is now.

        Raises:
          OSError: it is not there.
        """
        self.path, self.name = path, path.name
        status = path.stat()
        self.size = status.st_size
        self.version = f"{status.st_size} {status.st_mtime_ns}"
        self.identity = f"{path.resolve()} {self.version}"

    def __str__(self) -> str:
        return str(self.path)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from an offset on."""
        return self._use(lambda descriptor: os.pread(descriptor, size, offset))

    def expect(self, start: int, end: int) -> None:
        """Lets the kernel read ahead, for network disks above all."""
        in_background(lambda: self._use(lambda d: _read_ahead(d, start, end)))

    def _use(self, what: Callable[[int], Any]) -> Any:
        # Descriptors are kept, since opening costs more than reading, above all on
        # network disks; but never closed while another thread may be reading.
        kept = self.__dict__.get("_descriptor")
        if kept is not None:
            return what(kept)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return what(descriptor)
        finally:
            if not self._room.acquire(blocking=False):
                os.close(descriptor)
            elif self.__dict__.setdefault("_descriptor", descriptor) != descriptor:
                self._room.release()
                os.close(descriptor)

    def __del__(self) -> None:
        if "_descriptor" in self.__dict__:
            os.close(self._descriptor)
            self._room.release()

    def __getstate__(self) -> dict:
        return {n: v for n, v in self.__dict__.items() if n != "_descriptor"}


def _read_ahead(descriptor: int, start: int, end: int) -> None:
    for place in range(start, end, _AHEAD_STEP):
        size = min(_AHEAD_STEP, end - place)
        os.posix_fadvise(descriptor, place, size, os.POSIX_FADV_WILLNEED)


class Ahead:
    """Reads a file from its beginning to its end, in large parts."""

    def __init__(self, file: File):
        """Of a file that is far; the kernel does it for others."""
        self._file, self._start, self._content = file, 0, b""

    def read(self, offset: int, size: int) -> bytes:
        """As `File.read`."""
        first = offset - self._start
        if not 0 <= first <= first + size <= len(self._content):
            self._start, first = offset, 0
            self._content = self._file.read(offset, max(size, PART))
        return self._content[first : first + size]


class Stream(io.RawIOBase):
    """A file as other libraries want it."""

    def __init__(self, file: File):
        """At its beginning."""
        self._file, self._place = file, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As files do."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}
        self._place = start[whence] + offset
        return self._place

    def tell(self) -> int:
        """As files do."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """As files do."""
        content = self._file.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def as_file(file: Any) -> File:
    """A path as a file; files stay what they are."""
    return LocalFile(file) if isinstance(file, Path) else file


_jobs: "queue.SimpleQueue[Callable[[], None]]" = queue.SimpleQueue()


@functools.cache
def _start_threads() -> None:
    # Of this process, and gone with it, whatever they wait for.
    for _ in range(_NUM_THREADS):
        threading.Thread(target=_work, daemon=True).start()


def _work() -> None:
    while True:
        job = _jobs.get()
        try:
            job()
        except Exception:  # whoever reads will meet it too, and can tell of it
            continue
        finally:
            del job


def in_background(job: Callable[[], None]) -> None:
    """Does it in a thread; what it raises is lost."""
    _start_threads()
    _jobs.put(job)
