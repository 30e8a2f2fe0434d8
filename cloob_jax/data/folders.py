"""Pictures that lie in folders, each with a note from elsewhere."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cloob_jax.data import augment
from cloob_jax.data.protocol import Fault

# What `augment.decode` reads.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
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


def read_picture(folder: Path, name: str) -> bytes:
    """The content of a file, by its path below `folder` or from the root.

    Raises:
      augment.BadRecord: there is no such file, or it may not be read.
      OSError: the disk fails; another try may find the picture.
    """
    if not name:
        raise augment.BadRecord("no path of a picture")
    try:
        # A pipe would be waited for.
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise augment.BadRecord(f"{name} is no file")
        with open(descriptor, "rb") as file:
            return file.read()
    except ValueError:
        raise augment.BadRecord(f"{name!r} is no path") from None
    except OSError as error:
        if error.errno not in _LASTING:
            raise
        raise augment.BadRecord(f"{name}: {error.strerror}") from None
