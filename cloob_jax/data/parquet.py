"""Pairs in Parquet files: those of img2dataset, of Hugging Face, and others."""

import bisect
import collections
import dataclasses
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.data import (
    augment,
    files,
    folders,
    index_cache,
    parquet_index,
    patterns,
    remote_files,
)
from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError

_VERSION = 1  # to be raised when the same files would be indexed otherwise
_CACHE_BYTES = 256 * 2**20  # of row groups, in each process


class ParquetRecords:
    """The rows of some files that have an image.

    The image is bytes, a path (relative to the file's folder) or a struct of `bytes`
    and `path`; the caption is a text, or a list of texts, of which one is drawn each
    time.

    A row is only to be had with its whole row group, and few of these are kept. So a
    shuffle of all records reads a row group for every example: with the 100 rows of
    img2dataset a hundred times the data, with larger row groups more. Where that is too
    slow, convert the files to ArrayRecord.

    Attributes:
      fingerprint: of the files' names and sizes, the columns and the number of
        records; it does not depend on where the files lie.
      faults: how many rows of a file have no image, as img2dataset leaves them where a
        download failed.
      layout: which columns are read, for reports.
    """

    def __init__(
        self,
        field: str,
        found: Sequence[Path | remote_files.RemoteFile],
        columns: tuple[str, str] | None = None,
    ):
        """Reads what the files tell of their row groups, or finds it from earlier.

        Args:
          field: the config field they came from, for messages.
          found: files of one kind.
          columns: of images and of captions; None: those that are usual.

        Raises:
          UserError: pyarrow is not installed, a file cannot be read or lacks a column,
            or no row has an image.
        """
        parquet_index.library(field)
        self._files = [files.as_file(file) for file in found]
        self._folders = [os.path.dirname(str(file)) for file in found]
        self._names = patterns.below_common_folder(found)
        identity = [f"parquet {_VERSION} {columns}"]
        identity += (file.identity for file in self._files)
        self._index_file, report = index_cache.find_or_make(
            identity, lambda: parquet_index.scan(field, self._files, columns)
        )
        self._columns = report["columns"]
        self.layout = "images from {}, captions from {}".format(*self._columns)
        self.faults = [
            Fault(self._names[number], "", f"{count} rows without an image")
            for number, count in report["without"]
        ]
        self._process_state()
        if not len(self):
            raise UserError(
                f"{field}={found[0]}: no row of {len(found)} file(s) has anything in "
                f"the column {self._columns[0]}"
            )
        sizes = [(file.name, file.size) for file in self._files]
        text = json.dumps([sizes, self._columns, len(self)])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def _process_state(self) -> None:
        self._index = np.load(self._index_file, mmap_mode="r")
        self._ends = self._index[:, -1]
        self._metadata = functools.lru_cache(64)(self._read_metadata)
        self._groups = _Recent(self._decode, _CACHE_BYTES)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        number, rank = self._find(record)
        group = self._groups[number]
        row = group.rows[rank]
        image, caption = (group.table.column(n)[row].as_py() for n in (0, 1))
        captions = caption if isinstance(caption, list) else [caption]
        if isinstance(image, dict):
            image = image.get("bytes") or image.get("path")
        if isinstance(image, str):
            folder = self._folders[int(self._index[number][0])]
            if remote_files.is_remote(folder):
                raise augment.BadRecord(
                    "missing image", "its path leads away from afar"
                )
            image = folders.read_file(Path(folder), image)
        if not image:
            raise augment.BadRecord("missing image")
        return image, augment.encode_captions(captions)

    def name(self, record: int) -> tuple[str, str]:
        """The file and the row of one record."""
        number, rank = self._find(record)
        file, _, first, _ = map(int, self._index[number])
        try:
            rank = int(self._groups[number].rows[rank])
        except augment.BadRecord:
            return self._names[file], f"row {first + rank} or later"
        return self._names[file], f"row {first + rank}"

    def expect(self, records: range) -> None:
        """Brings the row groups of neighbours nearer."""
        first, last = self._find(records.start)[0], self._find(records.stop - 1)[0]
        for file, group, _, _ in self._index[first : last + 1].tolist():
            start, end = parquet_index.extent(
                self._metadata(file).row_group(group), self._columns
            )
            self._files[file].expect(start, end)

    def _find(self, record: int) -> tuple[int, int]:
        """The number of the row group, and which of its rows with an image it is."""
        if not 0 <= record < len(self):
            raise IndexError(record)
        number = bisect.bisect_right(self._ends, record)
        return number, record - (int(self._ends[number - 1]) if number else 0)

    def _decode(self, number: int) -> "_Group":
        parquet = parquet_index.library("")
        file, group, _, end = map(int, self._index[number])
        stream = files.Stream(self._files[file])
        try:
            with parquet.ParquetFile(stream, metadata=self._metadata(file)) as opened:
                table = opened.read_row_group(
                    group, columns=list(self._columns), use_threads=False
                ).select(self._columns)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None):  # the disk's, not the data's
                raise
            first, *_ = str(error).splitlines()
            raise augment.BadRecord(
                "damaged record", f"row group {group}: {first}"
            ) from None
        rows = np.arange(len(table))
        count = end - (int(self._ends[number - 1]) if number else 0)
        if count < len(rows):
            rows = np.flatnonzero(table.column(0).is_valid())
        if len(rows) != count:
            raise augment.BadRecord(
                "damaged record", f"row group {group} is not what it was"
            )
        return _Group(table, rows)

    def _read_metadata(self, file: int) -> Any:
        return parquet_index.library("").read_metadata(files.Stream(self._files[file]))

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        for name in ("_index", "_ends", "_metadata", "_groups"):
            del state[name]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._process_state()


@dataclasses.dataclass(frozen=True)
class _Group:
    table: Any  # of two columns
    rows: np.ndarray  # those that have an image


class _Recent:
    """The row groups used last; each is made once, whichever thread asks first."""

    def __init__(self, make: Callable[[int], _Group], num_bytes: int):
        self._make, self._num_bytes = make, num_bytes
        self._kept: collections.OrderedDict[int, Future] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> _Group:
        with self._lock:
            is_new = number not in self._kept
            future = self._kept.setdefault(number, Future())
            self._kept.move_to_end(number)
        if is_new:
            try:
                future.set_result(self._make(number))
                self._make_room()
            except BaseException as error:
                with self._lock:
                    del self._kept[number]
                future.set_exception(error)
        return future.result()

    def _make_room(self) -> None:
        with self._lock:
            done = {n: f.result() for n, f in self._kept.items() if f.done()}
            total = sum(group.table.nbytes for group in done.values())
            for number, group in list(done.items())[:-1]:
                if total > self._num_bytes:
                    total -= group.table.nbytes
                    del self._kept[number]
