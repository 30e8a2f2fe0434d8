"""Pairs in ArrayRecord files, whose records are found without a search.

A record is a msgpack map of `key` (str), `image` (encoded, bytes) and `caption` (str;
several: one a line).
"""

import bisect
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgpack
from array_record.python import array_record_data_source, array_record_module

from cloob_jax.data import augment, patterns
from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError

# One record a group is one read; compressed pictures do not shrink again.
_WRITER_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class _File:
    """What `ArrayRecordDataSource` calls a file instruction."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class ArrayRecords:
    """The records of some files; a damaged one is a `BadRecord`.

    Attributes:
      faults: files that others of the same set tell of, and that are not there.
      fingerprint: of the files' names, sizes and numbers of records; it does not
        depend on where they lie.
    """

    def __init__(self, field: str, files: Sequence[Path]):
        """Opens the files and counts their records.

        Args:
          field: the config field they came from, for messages.
          files: as `write` writes them.

        Raises:
          UserError: a file is damaged or holds something else, or there is no
            record.
        """
        self.faults = _gaps(files)
        # Threads, for disks with latency.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            counts = list(pool.map(_count, [field] * len(files), files))
        self._files, self._counts = list(files), counts
        self._names = patterns.below_common_folder(files)
        self._ends = list(itertools.accumulate(counts))
        self._records = array_record_data_source.ArrayRecordDataSource(
            [
                _File(str(file), 0, count, count)
                for file, count in zip(files, counts, strict=True)
            ]
        )
        if not len(self):
            raise UserError(f"{field}={files[0]}: no record in {len(files)} file(s)")
        sizes = [(file.name, file.stat().st_size) for file in files]
        text = json.dumps([sizes, counts])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._refuse_other_records(field, files[0])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        _, image, caption = _unpack(self._read(record))
        return image, caption.encode("utf-8", "surrogatepass")

    def shards(self) -> list[tuple[Path, int]]:
        """The files, and how many records each has."""
        return list(zip(self._files, self._counts, strict=True))

    def name(self, record: int) -> tuple[str, str]:
        """The file and the key of one record."""
        file = bisect.bisect_right(self._ends, record)
        try:
            key, _, _ = _unpack(self._read(record))
        except augment.BadRecord:
            first = self._ends[file - 1] if file else 0
            key = f"record {record - first}"
        return self._names[file], key

    def _read(self, record: int) -> bytes:
        if not 0 <= record < len(self):
            raise IndexError(record)
        try:
            return self._records[record]
        except RuntimeError as error:
            raise bad_record(error) from None

    def _refuse_other_records(self, field: str, file: Path) -> None:
        try:
            content = self._read(0)
        except augment.BadRecord:
            return
        try:
            _unpack(content)
        except augment.BadRecord as error:
            prepared = (file.parent / "dataset_info.json").is_file()
            advice = (
                f"it is a TFDS data set: give tfds:{file.parent}:SPLIT"
                if prepared
                else "write them with cloob_jax.data.array_records.write"
            )
            raise UserError(f"{field}={file}: {error}; {advice}") from None


def bad_record(error: Exception) -> Exception:
    """A `BadRecord` for what a reader raises; the error itself if the disk failed."""
    if re.match(r"\w+\(\) failed", str(error)):
        return error
    first, *_ = [*re.split("; |\n", str(error)), ""]
    return augment.BadRecord("damaged record", first or type(error).__name__)


def write(path: Path, records: Iterable[tuple[str, bytes, str]]) -> int:
    """Writes one file, which appears under its name when it is whole.

    Args:
      path: of the file, `NAME.array_record` or `NAME.array_record-00000-of-00010`.
      records: key, encoded image and caption; several captions: one a line.

    Returns:
      How many records there are.

    Raises:
      UserError: the file cannot be written.
    """
    return write_packed(path, itertools.starmap(pack, records))


def pack(key: str, image: bytes, caption: str) -> bytes:
    """A record as it stands in a file; see `write`."""
    return msgpack.packb({"key": key, "image": image, "caption": caption})


def write_packed(path: Path, records: Iterable[bytes]) -> int:
    """`write` of any records."""
    partial, count = path.with_name(f".{path.name}.partial"), 0
    try:
        writer = array_record_module.ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
        try:
            for record in records:
                writer.write(record)
                count += 1
        finally:
            writer.close()
        os.replace(partial, path)
    except RuntimeError as error:
        reason = str(error).split("; ")[0]
        raise UserError(f"{path} cannot be written: {reason}") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def _unpack(record: bytes) -> tuple[str, bytes, str]:
    try:
        content = msgpack.unpackb(record)
        key, image, caption = (content[name] for name in ("key", "image", "caption"))
    except (ValueError, KeyError, TypeError):
        key = image = caption = None
    if not (
        isinstance(key, str) and isinstance(image, bytes) and isinstance(caption, str)
    ):
        raise augment.BadRecord(
            "damaged record",
            "no msgpack map of key (str), image (bytes), caption (str)",
        )
    return key, image, caption


def _count(field: str, file: Path) -> int:
    try:
        reader = array_record_module.ArrayRecordReader(str(file))
        count = reader.num_records()
        reader.close()  # only this tells of some kinds of damage
    except RuntimeError as error:
        reason = str(error).split("; ")[0]
        raise UserError(
            f"{field}={file}: not a whole ArrayRecord file ({reason}); fetch or write "
            "it anew"
        ) from None
    return count


def _gaps(files: Sequence[Path]) -> list[Fault]:
    """Where names tell how many files there are, those that are missing."""
    names = {file.name for file in files}
    found = (re.fullmatch(r"(.*-)(\d+)(-of-(\d+))", name) for name in names)
    sets = {(m[1], len(m[2]), m[3], int(m[4])) for m in found if m}
    wanted = {
        f"{before}{number:0{digits}d}{after}"
        for before, digits, after, total in sets
        for number in range(total)
    }
    return [Fault(name, "", "the file is missing") for name in sorted(wanted - names)]
