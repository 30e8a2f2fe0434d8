"""Random access into WebDataset tars.

A WebDataset shard is a plain tar in which the members of one record share a key (the
name up to the first dot of its last part) and differ in their extension.
"""

import bisect
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloob_jax.data import patterns, tar_index

_MAX_DESCRIPTORS = 512  # half of what a process may usually have open


class TarRecords:
    """The records of some shards that have an image and a companion (`txt`, `cls`).

    `records[i]` is `(image bytes, companion bytes)`, read by two `pread` calls; it is
    safe in threads. Pickling carries paths alone: each process maps the index itself.

    Attributes:
      faults: what was left out while indexing, for the report to the user.
      fingerprint: names and sizes of the shards and the number of records, hashed;
        it does not depend on where the shards lie.
    """

    def __init__(self, shards: Sequence[Path], companion: str):
        """Indexes `shards`, or finds the index of an earlier run.

        Raises:
          UserError: a shard that cannot be read or is compressed, or shards without a
            single complete record.
        """
        self._shards = [Path(shard) for shard in shards]
        self._index_file, faults = tar_index.cached_index(self._shards, companion)
        self._names = patterns.below_common_folder(self._shards)
        names = dict(zip(map(str, self._shards), self._names, strict=True))
        self.faults = [dataclasses.replace(f, shard=names[f.shard]) for f in faults]
        self._process_state()
        description = [(s.name, s.stat().st_size) for s in self._shards]
        text = json.dumps([description, companion, len(self)])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def _process_state(self) -> None:
        self._index = np.load(self._index_file, mmap_mode="r")
        self._descriptors: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        shard, *places = (int(value) for value in self._index[record])
        offset, size, other_offset, other_size, _ = places
        image = self._read(shard, size, offset)
        return image, self._read(shard, other_size, other_offset)

    def shards(self) -> list[tuple[Path, int]]:
        """The tars, and how many records each has."""
        numbers = self._index[:, 0]
        ends = [bisect.bisect(numbers, number) for number in range(len(self._shards))]
        return list(zip(self._shards, np.diff(ends, prepend=0).tolist(), strict=True))

    def name(self, record: int) -> tuple[str, str]:
        """Which shard a record lies in, and its key there."""
        shard, header = (int(self._index[record][column]) for column in (0, -1))
        try:
            key = tar_index.key_at(self._shards[shard], header)
        except ValueError:  # the tar changed since
            key = f"at byte {header}"
        return self._names[shard], key

    def _read(self, shard: int, size: int, offset: int) -> bytes:
        # Descriptors are kept, since opening costs more than reading, above all on
        # network disks; but never closed while another thread may be reading.
        descriptor = self._descriptors.get(shard)
        if descriptor is not None:
            return os.pread(descriptor, size, offset)
        descriptor = os.open(self._shards[shard], os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            full = len(self._descriptors) >= _MAX_DESCRIPTORS
            if full or self._descriptors.setdefault(shard, descriptor) != descriptor:
                os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in getattr(self, "_descriptors", {}).values():
            os.close(descriptor)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_index"], state["_descriptors"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._process_state()
