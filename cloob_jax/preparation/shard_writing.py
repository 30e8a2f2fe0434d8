"""The records of a source that can be used, and ArrayRecord files of them.

What lies in which file is a function of the source and of the plan alone, and so are
its bytes: processes and machines may share the files out as they like.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cloob_jax.data import array_records, augment
from cloob_jax.data.protocol import ReadsAhead, Source
from cloob_jax.preparation import shrinking

_REPORT_SECONDS = 0.25
_TOLD = 500  # records that are fetched together


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that the files depend on.

    Attributes:
      files: what their names begin with.
      source: its fingerprint.
      records: how many it has.
      shard_size: records of the source for each file, however many can be used.
      resize: the shorter side of the pictures in pixels; None: they stay as they are.
      quality: of the JPEGs where pictures are resized.
      version: to be raised when the same settings would write other files.
    """

    files: str
    source: str
    records: int
    shard_size: int
    resize: int | None
    quality: int
    version: int = 1

    @property
    def num_shards(self) -> int:
        """How many files there are; one without a usable record is there, empty."""
        return -(-self.records // self.shard_size)

    def name(self, number: int) -> str:
        """What a file is called."""
        return f"{self.files}-{number:05d}-of-{self.num_shards:05d}"

    def shard(self, number: int) -> range:
        """The records of the source that a file is of."""
        start = number * self.shard_size
        return range(start, min(start + self.shard_size, self.records))


# Key, encoded image and captions as one record of a file; picklable.
Pack = Callable[[str, bytes, list[str]], bytes]


@dataclasses.dataclass(frozen=True)
class Job:
    """A plan, the source that it is of, and what makes a record."""

    source: Source
    plan: Plan
    pack: Pack


@dataclasses.dataclass
class Tally:
    """What became of some records.

    Attributes:
      written: how many could be used.
      bytes_before: of their pictures, in the source.
      bytes_after: the same, as they were written.
      most_captions: that a record has.
      dropped: the others: `shard`, `key`, `kind` and `reason` of each.
    """

    written: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    most_captions: int = 0
    dropped: list[dict[str, str]] = dataclasses.field(default_factory=list)


def usable(
    source: Source,
    numbers: range,
    tally: Tally,
    resize: int | None = None,
    quality: int = 0,
) -> Iterator[tuple[str, bytes, list[str]]]:
    """Key, image and captions of the records that can be used, in order.

    Args:
      source: where they come from.
      numbers: of the records.
      tally: what became of them is added to it.
      resize: see `Plan`.
      quality: see `Plan`.

    Raises:
      OSError: the disk fails.
    """
    for number in _told(source, numbers):
        try:
            before, text = source[number]
            captions = augment.decode_captions(text)
            if resize is None:
                augment.decode(before)
                after = before
            else:
                after = shrinking.shrink(before, resize, quality)
        except augment.BadRecord as error:
            shard, key = map(_plain, source.name(number))
            row = {"shard": shard, "key": key, "kind": error.kind, "reason": str(error)}
            tally.dropped.append(row)
            continue
        tally.written += 1
        tally.bytes_before += len(before)
        tally.bytes_after += len(after)
        tally.most_captions = max(tally.most_captions, len(captions))
        yield _plain(source.name(number)[1]), after, captions


def _told(source: Source, numbers: range) -> Iterator[int]:
    """The numbers; of those that come next a source that is far away is told."""
    for start in range(numbers.start, numbers.stop, _TOLD):
        for first in (start, start + _TOLD):
            coming = range(first, min(first + _TOLD, numbers.stop))
            if coming and isinstance(source, ReadsAhead):
                source.expect(coming)
        yield from range(start, min(start + _TOLD, numbers.stop))


def write(job: Job, folder: Path, number: int, report: Callable[[int], None]) -> Tally:
    """Writes one file, which appears under its name when it is whole.

    Args:
      job: what to write.
      folder: where to.
      number: of the file.
      report: is called now and then with how many records were gone through since.

    Raises:
      UserError: the file cannot be written.
      OSError: the disk fails.
    """
    plan, tally, reported = job.plan, Tally(), 0
    numbers = plan.shard(number)

    def packed() -> Iterator[bytes]:
        nonlocal reported
        last = time.monotonic()
        for record in usable(job.source, numbers, tally, plan.resize, plan.quality):
            yield job.pack(*record)
            if time.monotonic() - last > _REPORT_SECONDS:
                done = tally.written + len(tally.dropped)
                report(done - reported)
                last, reported = time.monotonic(), done

    array_records.write_packed(folder / plan.name(number), packed())
    report(len(numbers) - reported)
    return tally


def _plain(name: str) -> str:
    """Names of files may hold bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
