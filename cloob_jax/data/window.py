"""An order for storage that is far away: large pieces, each read once an epoch.

    chunks        of neighbouring records, in a new random order each epoch
    windows       of as many chunks as `lanes`, one after the other
    in a window   one record of each chunk in turn; each chunk in random order

So a batch holds as many records of each chunk of its window, and the records of one
lane are every `lanes`-th of the stream: processes that read different lanes read
different chunks.
"""

import functools
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from cloob_jax.data.protocol import ReadsAhead


class WindowShuffle(grain.MapDataset):
    """Endless record numbers; element `i` is a pure function of (seed, i).

    Each epoch has every record once. What does not fill a chunk is the shorter, last
    chunk of the last window.
    """

    def __init__(self, records: range, seed: int, chunk_size: int, lanes: int):
        """Of these records, each of which lies beside the next."""
        super().__init__(grain.MapDataset.range(records.start, records.stop).seed(seed))
        self._first, self._num_records, self._seed = records.start, len(records), seed
        self._chunk_size, self._lanes = chunk_size, lanes
        self._num_full, self._rest = divmod(len(records), chunk_size)

    def __len__(self) -> int:
        return self._num_records

    @property
    def size(self) -> int:
        """Of a window, in records."""
        return self._chunk_size * self._lanes

    def chunk(self, record: int) -> range:
        """The chunk that a record is of."""
        number = (record - self._first) // self._chunk_size
        start = number * self._chunk_size
        stop = min(start + self._chunk_size, self._num_records)
        return range(self._first + start, self._first + stop)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        epoch, place = divmod(int(index), self._num_records)
        window, place = divmod(place, self.size)
        first = window * self._lanes
        num_full = min(self._lanes, self._num_full - first)
        # In the last window the shorter chunk takes its turns until it is empty.
        rest = self._rest if num_full < self._lanes else 0
        if place < rest * (num_full + 1):
            turn, lane = divmod(place, num_full + 1)
        else:
            turn, lane = divmod(place - rest, num_full)
        if lane == num_full:
            chunk, size = self._num_full, self._rest
        else:
            chunks = _permutation(self._num_full, self._seed, epoch, 0)
            chunk, size = int(chunks[first + lane]), self._chunk_size
        inside = _permutation(size, self._seed, epoch, 1 + chunk)
        return self._first + chunk * self._chunk_size + int(inside[turn])


class ReadAhead(grain.MapDataset):
    """The same record numbers; their source is told of each chunk a window before."""

    def __init__(self, parent: WindowShuffle, source: ReadsAhead):
        """Of an order, and the source it is of."""
        super().__init__(parent)
        self._order, self._source = parent, source

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        record = self._order[index]
        # In a full window that is the next chunk of the same lane.
        for soon in (record, self._order[index + self._order.size]):
            _tell(self._source.expect, self._order.chunk(soon))
        return record


@functools.lru_cache(maxsize=256)  # a few windows
def _tell(expect: Callable[[range], None], chunk: range) -> None:
    expect(chunk)


@functools.lru_cache(maxsize=1024)
def _permutation(size: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size).astype(np.uint32)
