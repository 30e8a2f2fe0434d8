"""Pictures that lie in folders, with notes from elsewhere or captions beside them."""

import array
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from cloob_jax.data import augment, index_cache
from cloob_jax.data.protocol import Fault

# What `augment.decode` reads.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
_CAPTIONS = ".txt"
_VERSION = 1  # to be raised when the same folder would be indexed otherwise
# What is wrong with a path, and not with the disk at the moment.
_LASTING = (
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
)


class FolderRecords:
    """Pictures of a folder with a note on each: what `TarRecords` is of tars."""

    def __init__(self, folder: Path, notes: Mapping[str, str]):
        """Of files by their names below `folder`, in the order of the notes."""
        self.faults: list[Fault] = []
        self._folder, self._names = folder, list(notes)
        self._notes = list(notes.values())
        text = json.dumps([self._names, self._notes])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        path = self._folder / self._names[record]
        return path.read_bytes(), self._notes[record].encode()

    def name(self, record: int) -> tuple[str, str]:
        """The folder and the file of a picture."""
        return str(self._folder), self._names[record]


class FolderPairs:
    """Pictures anywhere below a folder, with captions in a `.txt` of the same stem.

    Hidden files and folders, and folders behind links, are passed over. The names are
    looked up at each start, and kept as bytes in a file that processes share.

    Attributes:
      fingerprint: of the names below the folder; the contents are not looked at.
      faults: pictures without a `.txt`, and folders that cannot be read.
    """

    def __init__(self, folder: Path):
        """Lists the pictures, in the order of their names within each folder."""
        self._folder = folder
        self.faults: list[Fault] = []
        digest, text, ends = hashlib.sha256(), bytearray(), array.array("q", [0])
        for name, has_caption in _pictures(folder, self._cannot_list):
            if not has_caption:
                self.faults.append(Fault(str(folder), name, "no .txt beside it"))
                continue
            encoded = os.fsencode(name)
            digest.update(encoded + b"\0")
            text += encoded
            ends.append(len(text))
        self._size = len(ends) - 1
        self.fingerprint = digest.hexdigest()[:16]

        def make() -> tuple[np.ndarray, None]:
            return np.frombuffer(ends.tobytes() + text, np.uint8), None

        identity = [f"folder {_VERSION}", digest.hexdigest()]
        self._index_file, _ = index_cache.find_or_make(identity, make)
        self._process_state()

    def _process_state(self) -> None:
        index = np.load(self._index_file, mmap_mode="r")
        self._ends = index[: 8 * (self._size + 1)].view(np.int64)
        self._text = index[8 * (self._size + 1) :]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        _, name = self.name(record)
        captions = read_file(self._folder, str(Path(name).with_suffix(_CAPTIONS)))
        return read_file(self._folder, name), captions

    def name(self, record: int) -> tuple[str, str]:
        """The folder and the file of a picture."""
        if not 0 <= record < self._size:
            raise IndexError(record)
        start, end = (int(place) for place in self._ends[record : record + 2])
        return str(self._folder), os.fsdecode(self._text[start:end].tobytes())

    def _cannot_list(self, error: OSError) -> None:
        reason = f"cannot be listed: {error.strerror}"
        self.faults.append(Fault(str(self._folder), str(error.filename), reason))

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_ends"], state["_text"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._process_state()


def has_pairs(folder: Path) -> bool:
    """Whether any picture below has a caption beside it."""
    return any(has_caption for _, has_caption in _pictures(folder))


def _pictures(
    folder: Path, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, bool]]:
    """Names of pictures below a folder, and whether they have a caption."""
    for where, folders, files in os.walk(folder, onerror=onerror):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = os.path.relpath(where, folder)
        there = set(files)
        for name in sorted(files):
            stem, extension = os.path.splitext(name)
            if extension.lower() in _EXTENSIONS and not name.startswith("."):
                whole = name if prefix == "." else os.path.join(prefix, name)
                yield whole, stem + _CAPTIONS in there


def by_class(folder: Path) -> dict[str, list[str]]:
    """Class folder -> its pictures' names below `folder`, both sorted."""
    classes = sorted(path for path in folder.glob("*") if _is_visible_folder(path))
    return {
        path.name: sorted(
            f"{path.name}/{file.name}"
            for file in path.iterdir()
            if file.suffix.lower() in _EXTENSIONS
        )
        for path in classes
    }


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def read_file(folder: Path, name: str) -> bytes:
    """The content of a file, by its path below `folder` or from the root.

    Raises:
      augment.BadRecord: there is no such file, or it may not be read.
      OSError: the disk fails; another try may find the picture.
    """
    if not name:
        raise augment.BadRecord("missing image", "no path")
    try:
        # A pipe would be waited for.
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise augment.BadRecord("missing image", f"{name} is no file")
        with open(descriptor, "rb") as file:
            return file.read()
    except ValueError:
        raise augment.BadRecord("missing image", f"{name!r} is no path") from None
    except OSError as error:
        if error.errno not in _LASTING:
            raise
        raise augment.BadRecord("missing image", f"{name}: {error.strerror}") from None
