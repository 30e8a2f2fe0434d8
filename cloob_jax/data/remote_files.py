"""Files behind URLs, through fsspec."""

import collections
import concurrent.futures
import glob
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloob_jax import filesystems
from cloob_jax.data import near_copies
from cloob_jax.data.files import PART, in_background

_PAUSES = (1, 2, 4, 8)  # seconds before a request is made again
_MAX_PIECES = 256  # of a process, that are kept open
_VERSIONS = (  # each kind of storage has a word of its own
    *("etag", "ETag", "blob_id", "md5Hash", "crc32c", "generation"),
    *("mtime", "updated", "LastModified", "Last-Modified", "created"),
)


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
        for reference in self._pieces.valuerefs():  # a copy, which threads may change
            piece = reference()
            if piece is not None and piece.start <= offset and end <= piece.end:
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

        in_background(copy)

    def _parts(self, start: int, end: int) -> Iterator[bytes]:
        for place in range(start, end, PART):
            yield self.fetch(place, min(place + PART, end))

    def fetch(self, start: int, end: int) -> bytes:
        """A range, by one request.

        Raises:
          OSError: it cannot be had, after several tries.
        """
        if start >= end:
            return b""
        for pause in (*_PAUSES, None):
            try:
                filesystem, path = filesystems.open_url(self.url)
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
    filesystem, path = filesystems.open_url(name)
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
    filesystem, path = filesystems.open_url(folder)
    filesystem.makedirs(path, exist_ok=True)
    filesystem.put_file(str(content), f"{path.rstrip('/')}/{name}")


def get(folder: str, name: str, to: Path) -> None:
    """Copies a file from a folder, wherever that is.

    Raises:
      Exception: what the library raises where that fails.
    """
    filesystem, path = filesystems.open_url(folder)
    filesystem.get_file(f"{path.rstrip('/')}/{name}", str(to))
