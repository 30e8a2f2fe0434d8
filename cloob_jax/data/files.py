"""Files that are read here and there: on a disk, or far away through fsspec."""

import collections
import concurrent.futures
import functools
import glob
import io
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cloob_jax.data import near_copies

_MAX_DESCRIPTORS = 512  # half of what a process may usually have open
_AHEAD_STEP = 1 << 17  # bytes; kernels cut a longer wish short
_PART = 8 << 20  # bytes of one request: latency hardly counts, nor does memory
_PAUSES = (1, 2, 4, 8)  # seconds before a request is made again
_NUM_THREADS, _MAX_PIECES = 8, 256  # of a process, that are read ahead
_VERSIONS = (  # each kind of storage has a word of its own
    *("etag", "ETag", "blob_id", "md5Hash", "crc32c", "generation"),
    *("mtime", "updated", "LastModified", "Last-Modified", "created"),
)
_EXTRAS = {"gcs": "gs", "https": "http"}  # where they have another name


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
        _in_background(lambda: self._use(lambda d: _read_ahead(d, start, end)))

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


class RemoteFile:
    """A file behind a URL, of which expected ranges are copied to the local disk.

    What was not expected is read by a request of its own.
    """

    # The pieces expected last in this process, in whatever file.
    _recent: "collections.deque[near_copies.Piece]" = collections.deque(
        maxlen=_MAX_PIECES
    )

    def __init__(self, url: str, size: int, version: str):
        """Of a size and a version, as `find` learns of them."""
        self.url, self.name = url, url.rstrip("/").rpartition("/")[2]
        self.size, self.version = size, f"{size} {version}"
        self.identity = f"{url} {self.version}"
        self._forget()

    def _forget(self) -> None:
        self._pieces: weakref.WeakValueDictionary[int, near_copies.Piece] = (
            weakref.WeakValueDictionary()
        )

    def __str__(self) -> str:
        return self.url

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from an offset on.

        Raises:
          OSError: they cannot be had, after several tries.
        """
        end = min(offset + size, self.size)
        for piece in list(self._pieces.values()):
            if piece.start <= offset and end <= piece.end:
                return piece.read(offset, end)
        return self.fetch(offset, end)

    def expect(self, start: int, end: int) -> None:
        """Begins to copy a range, unless a process of this machine has."""
        if start in self._pieces:
            return
        piece = near_copies.Piece(self.identity, start, end, self._parts)
        self._pieces[start] = piece
        self._recent.append(piece)
        reference = weakref.ref(piece)  # what nobody waits for need not be fetched

        def copy() -> None:
            piece = reference()
            if piece is not None:
                piece.copy()

        _in_background(copy)

    def _parts(self, start: int, end: int) -> Any:
        for place in range(start, end, _PART):
            yield self.fetch(place, min(place + _PART, end))

    def fetch(self, start: int, end: int) -> bytes:
        """A range, by one request.

        Raises:
          OSError: it cannot be had, after several tries.
        """
        if start >= end:
            return b""
        for pause in (*_PAUSES, None):
            try:
                filesystem, path = _open(self.url)
                content = filesystem.cat_file(path, start=start, end=end)
            except (FileNotFoundError, PermissionError) as error:
                raise OSError(error.errno, str(error), self.url) from None
            except Exception as error:  # each library has errors of its own
                problem = f"{type(error).__name__}: {error}"
            else:
                if len(content) == end - start:
                    return content
                problem = f"{len(content)} bytes came, not the {end - start} asked for"
                if len(content) == self.size:
                    pause, problem = None, "the server knows no ranges of a file"
            if pause is None:
                break
            time.sleep(pause)
        raise OSError(None, problem, self.url)

    def __getstate__(self) -> dict:
        return {n: v for n, v in self.__dict__.items() if n != "_pieces"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()


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
            self._content = self._file.read(offset, max(size, _PART))
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


def as_file(file: Path | RemoteFile) -> File:
    """A path as a file."""
    return LocalFile(file) if isinstance(file, Path) else file


def is_remote(name: str) -> bool:
    """Whether it is a URL."""
    return "://" in name


def find(name: str, in_folder: Sequence[str]) -> list[RemoteFile]:
    """What a URL names: a file, those of a glob, or those in a folder.

    Args:
      name: `gs://bucket/00000.tar`.
      in_folder: as in `patterns.find`.

    Raises:
      ImportError: a library lacks, which the message names.
      Exception: what the library raises, where it is not allowed or not reached.
    """
    filesystem, path = _open(name)
    if glob.has_magic(path):
        found = filesystem.glob(path, detail=True)
    else:
        try:
            info = filesystem.info(path)
        except FileNotFoundError:
            info = {"type": "directory"}
        found = {path: info}
        # The page of a web server that lists files is a file too.
        if info["type"] == "directory" or info.get("mimetype") == "text/html":
            folder = path.rstrip("/")
            found = next(
                filter(None, (_in(filesystem, folder, k) for k in in_folder)), {}
            )
    files = [item for item in found.items() if item[1]["type"] == "file"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda item: _look(filesystem, *item), files))


def _in(filesystem: Any, folder: str, kind: str) -> dict[str, Any]:
    try:
        found = filesystem.glob(f"{folder}/{kind}", detail=True)
    except FileNotFoundError:
        return {}
    return {p: i for p, i in found.items() if not p.rpartition("/")[2].startswith(".")}


def _look(filesystem: Any, path: str, info: dict[str, Any]) -> RemoteFile:
    if info.get("size") is None:
        info = filesystem.info(path)
    if info.get("size") is None:
        raise OSError(f"{path}: the server does not tell its size")
    return RemoteFile(filesystem.unstrip_protocol(path), info["size"], _version(info))


def _version(info: dict[str, Any]) -> str:
    """What changes with the content."""
    return next((f"{info[name]}" for name in _VERSIONS if info.get(name)), "")


def put(content: Path, folder: str, name: str) -> None:
    """Copies a file into a folder, wherever that is.

    Raises:
      Exception: what the library raises where that fails.
    """
    filesystem, path = _open(folder)
    filesystem.makedirs(path, exist_ok=True)
    filesystem.put_file(str(content), f"{path.rstrip('/')}/{name}")


def get(folder: str, name: str, to: Path) -> None:
    """Copies a file from a folder, wherever that is.

    Raises:
      Exception: what the library raises where that fails.
    """
    filesystem, path = _open(folder)
    filesystem.get_file(f"{path.rstrip('/')}/{name}", str(to))


def _open(url: str) -> tuple[Any, str]:
    # Only what lies far away needs it.
    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its errors are told of here
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.partition("://")[0]
        extra = _EXTRAS.get(protocol, protocol)
        raise ImportError(f"{error} (pip install 'cloob_jax[{extra}]')") from None


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


def _in_background(job: Callable[[], None]) -> None:
    _start_threads()
    _jobs.put(job)
