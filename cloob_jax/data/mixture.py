"""Several sources as one, each record once an epoch or in a given ratio."""

import bisect
import hashlib
import itertools
import json
from collections.abc import Sequence

from cloob_jax.data.protocol import Fault, ReadsAhead, Source


class Mixture:
    """The records of several sources, numbered through.

    Attributes:
      parts: the sources.
      weights: examples of each part for every `sum(weights)`, which `order.shuffled`
        keeps to; empty: as many as each has.
      fingerprint: of the parts' and the weights, since other weights are another
        order: an earlier run cannot go on in it.
      faults: those of all parts.
    """

    def __init__(
        self, names: Sequence[str], parts: Sequence[Source], weights: Sequence[int] = ()
    ):
        """Of sources and what to call them in reports, in the same order."""
        self.parts, self.weights = tuple(parts), tuple(weights)
        self._names = list(names)
        # Shards of two parts may have one name.
        self.faults = [
            Fault(f"{name}: {fault.shard}", fault.key, fault.reason)
            for name, part in zip(names, parts, strict=True)
            for fault in part.faults
        ]
        self._ends = list(itertools.accumulate(map(len, parts)))
        text = json.dumps([[part.fingerprint for part in parts], self.weights])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        number, inside = self._find(record)
        return self.parts[number][inside]

    def name(self, record: int) -> tuple[str, str]:
        """The part and its shard, and the key of one record."""
        number, inside = self._find(record)
        shard, key = self.parts[number].name(inside)
        return f"{self._names[number]}: {shard}", key

    def expect(self, records: "range") -> None:
        """Tells the parts."""
        for number, part in enumerate(self.parts):
            own = self.range(number)
            start = max(records.start, own.start) - own.start
            stop = min(records.stop, own.stop) - own.start
            if start < stop and isinstance(part, ReadsAhead):
                part.expect(range(start, stop))

    def range(self, number: int) -> "range":
        """The record numbers of one part."""
        end = self._ends[number]
        return range(end - len(self.parts[number]), end)

    def part_of(self, record: int) -> int:
        """The number of the part that has the record."""
        return bisect.bisect_right(self._ends, record)

    def _find(self, record: int) -> tuple[int, int]:
        if not 0 <= record < len(self):
            raise IndexError(record)
        number = self.part_of(record)
        return number, record - self.range(number).start


def alike(source: Source, record: int) -> range:
    """The records that may replace one, so that the ratio of a mixture still holds."""
    if isinstance(source, Mixture) and source.weights:
        return source.range(source.part_of(record))
    return range(len(source))


def epochs(source: Source, num_examples: int) -> list[float]:
    """How often so many examples go through the data, or through each weighted part."""
    if not (isinstance(source, Mixture) and source.weights):
        return [num_examples / len(source)]
    shares = [weight / sum(source.weights) for weight in source.weights]
    return [
        num_examples * share / len(part)
        for share, part in zip(shares, source.parts, strict=True)
    ]
