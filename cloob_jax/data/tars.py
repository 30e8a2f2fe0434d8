"""Random access into WebDataset tars.

A WebDataset shard is a plain tar in which the members of one record share a key (the
name up to the first dot of its last part) and differ in their extension.
"""

import bisect
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cloob_jax.data import files, patterns, remote_files, tar_index
from cloob_jax.errors import UserError

_NEAR = 1 << 14  # bytes between image and companion that are read along with them
_GAP = 1 << 20  # bytes between expected records that are brought along


class TarRecords:
    """The records of some shards that have an image and a companion (`txt`, `cls`).

    `records[i]` is `(image bytes, companion bytes)`, mostly by one read; it is safe in
    threads. Pickling carries paths alone: each process maps the index itself.

    Attributes:
      faults: what was left out while indexing, for the report to the user.
      fingerprint: names and sizes of the shards and the number of records, hashed;
        it does not depend on where the shards lie.
    """

    def __init__(
        self,
        shards: Sequence[Path | remote_files.RemoteFile],
        companion: str,
        report: Callable[[int, int], None] | None = None,
    ):
        """Indexes `shards`, or finds the index of an earlier run.

        Args:
          shards: in the order of the records.
          companion: the extension of what goes with an image.
          report: is told how many of all shards are indexed.

        Raises:
          UserError: a shard that cannot be read or is compressed, or shards without a
            single complete record.
        """
        try:
            self._shards = [files.as_file(shard) for shard in shards]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        self._companion = companion
        self._index_file, faults = tar_index.cached_index(
            self._shards, companion, report
        )
        self._names = patterns.below_common_folder(shards)
        names = dict(zip(map(str, self._shards), self._names, strict=True))
        self.faults = [dataclasses.replace(f, shard=names[f.shard]) for f in faults]
        self._index = np.load(self._index_file, mmap_mode="r")
        description = [(shard.name, shard.size) for shard in self._shards]
        text = json.dumps([description, companion, len(self)])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        shard, offset, size, other_offset, other_size, _ = self._index[record].tolist()
        file = self._shards[shard]
        if 0 <= other_offset - offset - size <= _NEAR:
            both = file.read(offset, other_offset + other_size - offset)
            return both[:size], both[other_offset - offset :]
        return file.read(offset, size), file.read(other_offset, other_size)

    def shards(self) -> list[tuple[Path | remote_files.RemoteFile, int]]:
        """The tars, and how many records each has."""
        numbers = self._index[:, 0]
        ends = [bisect.bisect(numbers, number) for number in range(len(self._shards))]
        given: list = [getattr(shard, "path", shard) for shard in self._shards]
        return list(zip(given, np.diff(ends, prepend=0).tolist(), strict=True))

    def name(self, record: int) -> tuple[str, str]:
        """Which shard a record lies in, and its key there."""
        shard, header = (int(self._index[record][column]) for column in (0, -1))
        try:
            key = tar_index.key_at(self._shards[shard], header)
        except ValueError:  # the tar changed since
            key = f"at byte {header}"
        return self._names[shard], key

    def expect(self, records: range) -> None:
        """Brings neighbours nearer, in as few pieces as they lie in."""
        rows = np.asarray(self._index[records.start : records.stop])
        for shard in np.unique(rows[:, 0]):
            for start, end in _pieces(rows[rows[:, 0] == shard]):
                self._shards[shard].expect(start, end)

    def keep_index(self, folder: str) -> str:
        """Puts the index into the shards' folder, where other machines find it.

        Returns:
          Its name there.

        Raises:
          UserError: it cannot be written there.
        """
        return tar_index.keep(self._index_file, self._shards, self._companion, folder)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_index"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._index = np.load(self._index_file, mmap_mode="r")


def _pieces(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges that hold all members of some rows of the index, headers included."""
    _, offset, size, other_offset, other_size, header = rows.T
    images = np.stack([header, offset + size], 1)
    others = np.stack([other_offset, other_offset + other_size], 1)
    members = np.concatenate([images, others])
    members = members[np.argsort(members[:, 0])]
    starts, ends = members[:, 0], np.maximum.accumulate(members[:, 1])
    first = np.flatnonzero(np.r_[True, starts[1:] > ends[:-1] + _GAP])
    for start, end in zip(starts[first], ends[np.r_[first[1:], 0] - 1], strict=True):
        yield int(start), int(end)
