"""Pictures that lie in folders, each with a note from elsewhere."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cloob_jax.data.tar_index import Fault

# What `augment.decode` reads.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


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
