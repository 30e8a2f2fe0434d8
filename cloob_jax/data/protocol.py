"""What every source of image-caption pairs offers, whatever form the data is in."""

import dataclasses
from typing import Any, Protocol, runtime_checkable


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something in the data that cannot be used: where, and why."""

    shard: str
    key: str
    reason: str


@runtime_checkable
class Source(Protocol):
    """Pairs of image and caption with random access; safe in threads, picklable.

    Attributes:
      fingerprint: says whether it is still the same data, wherever it lies.
      faults: what could not be used at all.
    """

    fingerprint: str
    faults: list[Fault]

    def __len__(self) -> int:
        """How many records there are."""
        ...

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        """The encoded image and the captions, one a line, of one record.

        Raises:
          augment.BadRecord: the record cannot be read.
        """
        ...

    def name(self, record: int) -> tuple[str, str]:
        """The shard and the key of one record, for reports."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A source that is told what will be read soon, since it may lie far away."""

    def expect(self, records: range) -> None:
        """Most of these neighbours will be read soon; returns at once."""
        ...


@runtime_checkable
class Sharded(Protocol):
    """A source whose records lie in files, one after the other."""

    def shards(self) -> list[tuple[Any, int]]:
        """Its files (`Path` or `files.RemoteFile`), and how many records each has."""
        ...
