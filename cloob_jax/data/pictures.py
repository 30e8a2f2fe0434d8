"""Data sets for evaluation: pictures, each with a note such as a label or captions."""

import abc
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from cloob_jax.data import augment
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError

_Set = TypeVar("_Set", bound="Pictures")


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures(abc.ABC):
    """Pictures with random access and a note on each; safe in threads.

    Attributes:
      name: what people call the data set.
      records: `(encoded picture, encoded note)`.
    """

    name: str
    records: Source

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.records)

    def __getitem__(self, record: int) -> tuple[bytes, Any]:
        """An encoded picture, and its note.

        Raises:
          UserError: the note is not what it should be.
        """
        image, note = self.records[record]
        try:
            return image, self.read(note)
        except ValueError as error:
            where = self.where(record)
            raise UserError(f"{self.name}: {where}: {error}") from None

    @abc.abstractmethod
    def read(self, note: bytes) -> Any:
        """What a note says.

        Raises:
          ValueError: it is not what it should be.
        """

    def where(self, record: int) -> str:
        """The shard and the key of a picture, or its folder and file, for messages."""
        return " ".join(self.records.name(record))


class _Chosen:
    """Some records of a source."""

    def __init__(self, records: Source, chosen: Sequence[int]):
        self.faults = records.faults
        self.fingerprint = f"{records.fingerprint}, {len(chosen)} of it"
        self._records, self._chosen = records, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        return self._records[self._chosen[record]]

    def name(self, record: int) -> tuple[str, str]:
        return self._records.name(self._chosen[record])


def thinned(dataset: _Set, at_most: int) -> _Set:
    """The data set itself, or of a larger one that many pictures, evenly spaced."""
    if len(dataset) <= at_most:
        return dataset
    chosen = np.linspace(0, len(dataset) - 1, at_most).astype(int).tolist()
    return dataclasses.replace(dataset, records=_Chosen(dataset.records, chosen))


def batches(
    dataset: Pictures, *, batch_size: int, image_size: int
) -> Iterator[tuple[np.ndarray, list]]:
    """All pictures in order, as `load` gives them, `batch_size` or fewer at a time.

    Raises:
      UserError: a picture that cannot be decoded; an evaluation leaves none out.
    """
    starts = range(0, len(dataset), batch_size)
    with ThreadPoolExecutor(1) as ahead:
        # The next pictures are decoded while these are used.
        def start_loading(start: int) -> Future:
            records = range(start, min(start + batch_size, len(dataset)))
            return ahead.submit(load, dataset, records, image_size)

        pending = start_loading(0)
        for start in starts:
            current = pending
            if start + batch_size < len(dataset):
                pending = start_loading(start + batch_size)
            yield current.result()


def load(
    dataset: Pictures, records: Iterable[int], image_size: int
) -> tuple[np.ndarray, list]:
    """Some pictures, resized for evaluation: uint8 `[b, h, w, 3]`, and their notes.

    Raises:
      UserError: a picture that cannot be decoded.
    """

    def read(record: int) -> tuple[np.ndarray, Any]:
        encoded, note = dataset[record]
        try:
            image = augment.decode(encoded)
        except augment.BadRecord as error:
            where = dataset.where(record)
            raise UserError(f"{dataset.name}: {where}: {error}") from None
        return augment.evaluation_resize(image, image_size), note

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        images, notes = zip(*pool.map(read, records), strict=True)
    return np.stack(images), list(notes)
