"""The order of examples: a function of (seed, examples seen) and of nothing else."""

import sys
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from cloob_jax.data.mixture import Mixture
from cloob_jax.data.protocol import ReadsAhead, Source
from cloob_jax.data.window import ReadAhead, WindowShuffle

# Of a window, some hundred megabytes to a gigabyte. Fewer, larger chunks mix less:
# benchmarks/mixing.py.
_CHUNK_SIZE, _LANES = 500, 32


def shuffled(source: Source, seed: int, shuffle: str = "global") -> grain.MapDataset:
    """An endless stream of record numbers: each epoch a new permutation of all.

    The permutation is any (`global`) or, for disks that are slow at one record here and
    one there, one that reads large pieces (`window`, see `window.WindowShuffle`).

    Element `i` is a pure function of (seed, i), at no cost in memory, so that a run
    continues at any example by slicing. Random maps after it are keyed in the same way.
    The parts of a mixture with weights are permuted each by itself, with epochs of its
    own, and take turns in the exact ratio of the weights.
    """
    # Grain takes seed + epoch for an epoch, so neighbouring seeds would share epochs.
    spaced = int(np.random.SeedSequence(seed).generate_state(1)[0])
    if not (isinstance(source, Mixture) and source.weights):
        return _permuted(source, range(len(source)), spaced, shuffle)
    seeds = np.random.SeedSequence(seed).generate_state(len(source.parts) + 1)[1:]
    parts = [
        _permuted(source, source.range(number), int(seed), shuffle)
        for number, seed in enumerate(seeds)
    ]
    return _TakingTurns(parts, source.weights).seed(spaced)


def _permuted(
    source: Source, records: range, seed: int, shuffle: str
) -> grain.MapDataset:
    if shuffle == "window":
        order = WindowShuffle(records, seed, _CHUNK_SIZE, _LANES)
        if isinstance(source, ReadsAhead):
            return ReadAhead(order, source).repeat()
        return order.repeat()
    dataset = grain.MapDataset.range(records.start, records.stop)
    return dataset.seed(seed).shuffle().repeat()


def places(batch_size: int, shuffle: str) -> np.ndarray:
    """Which example of a batch lies in which of its rows, `[b]`.

    That of a window puts the examples of a lane beside each other. Processes, which
    hold blocks of rows, so read different chunks, if the lanes divide the batch.
    """
    rows = np.arange(batch_size)
    if shuffle == "window" and batch_size % _LANES == 0:
        return rows.reshape(-1, _LANES).T.ravel()
    return rows


class _TakingTurns(grain.MapDataset):
    """Endless data sets in a ratio of whole numbers, evenly spread.

    Grain's own mix rounds the ratio: 3 to 7 becomes 100 to 233.
    """

    def __init__(self, parents: Sequence[grain.MapDataset], weights: Sequence[int]):
        super().__init__(parents)
        self._weights = weights
        # Example j of a part that has w of them in a period is due at (j + 1/2) / w.
        parts = np.repeat(np.arange(len(weights)), weights)
        ranks = np.concatenate([np.arange(weight) for weight in weights])
        due = (2 * ranks + 1) / np.repeat(weights, weights)
        turns = np.argsort(due, kind="stable")
        self._parts, self._ranks = parts[turns], ranks[turns]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        period, turn = divmod(index, len(self._parts))
        part = int(self._parts[turn])
        return self._parents[part][
            period * self._weights[part] + int(self._ranks[turn])
        ]
