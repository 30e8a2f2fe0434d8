"""Pairs from a table of image paths and captions: CSV, TSV, or with semicolons."""

import csv
import hashlib
import io
import os
import re
from pathlib import Path

import numpy as np

from cloob_jax.data import augment, files, folders, index_cache, patterns
from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError

_VERSION = 1  # to be raised when the same table would be indexed otherwise
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_COLUMNS = ("filepath", "title")  # open_clip's
_BLOCK = 1 << 24
_LONGEST_ROW = 1 << 25  # bytes
_LONGEST_FIELD = 131072  # bytes, csv's own limit in characters


class CsvRecords:
    """The rows of a table: pictures by their paths, relative to the table's folder.

    The table is read once, to find where rows begin; a row is read and parsed when it
    is wanted. A row that cannot be used, and one without its picture, is a
    `BadRecord`. Line breaks in a caption count as spaces.

    Attributes:
      fingerprint: of the table's content and the columns; it does not depend on where
        the table lies. The pictures are not looked at.
      layout: how the table is read, for reports.
    """

    def __init__(self, field: str, file: Path, columns: tuple[str, str] | None = None):
        """Indexes the table, or finds the index of an earlier run.

        Args:
          field: the config field it came from, for messages.
          file: UTF-8, with a first row that names the columns.
          columns: of the paths and of the captions; None: `filepath`, `title`.

        Raises:
          UserError: the table lacks a column or has no row, or it cannot be read.
        """
        self.faults: list[Fault] = []
        self._file = file
        wanted = columns or _COLUMNS
        try:
            self._separator, header = _header(file, wanted)
            places = [_place(name, header) for name in wanted]
            self._width = len(header)
            columns_read = "images from {}, captions from {}".format(*wanted)
            self.layout = f"{_SEPARATORS[self._separator]}; {columns_read}"
            identity = f"csv {_VERSION} {self._separator}"
            self._index_file, content = index_cache.find_or_make(
                [identity, files.LocalFile(file).identity],
                lambda: _scan(file, self._separator),
            )
            self._image, self._caption = places
            self._process_state()
            if not len(self):
                raise ValueError("it has no row below the names of the columns")
            if "://" in self.name(0)[1]:
                raise ValueError(
                    f"the column {wanted[0]} holds URLs; fetch the images with "
                    "img2dataset, and give what it writes"
                )
        except ValueError as error:
            raise UserError(f"{field}={file}: {error}") from None
        except OSError as error:
            raise UserError(f"{field}={file}: {error.strerror}") from None
        text = f"{content} {places}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def _process_state(self) -> None:
        self._starts = np.load(self._index_file, mmap_mode="r")
        self._descriptor = os.open(self._file, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._starts) - 2  # the header, and the end

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        row = self._row(record)
        caption = augment.encode_captions([row[self._caption]])
        return folders.read_file(self._file.parent, row[self._image]), caption

    def name(self, record: int) -> tuple[str, str]:
        """The table's name, and the path of the picture as it stands there."""
        try:
            return self._file.name, self._row(record)[self._image]
        except augment.BadRecord:
            return self._file.name, f"row {record + 1}"

    def _row(self, record: int) -> list[str]:
        if not 0 <= record < len(self):
            raise IndexError(record)
        start, end = (int(place) for place in self._starts[record + 1 : record + 3])
        try:
            text = os.pread(self._descriptor, end - start, start).decode("utf-8")
        except UnicodeDecodeError as error:
            raise augment.BadRecord(
                "damaged record", f"row is not UTF-8 (byte {error.start})"
            ) from None
        try:
            row = _parse(text, self._separator)
        except csv.Error as error:
            raise augment.BadRecord(
                "damaged record", f"row cannot be parsed: {error}"
            ) from None
        if len(row) != self._width:
            raise augment.BadRecord(
                "damaged record",
                f"row has {len(row)} columns, the first row {self._width}",
            )
        return row

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_starts"], state["_descriptor"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._process_state()


def _parse(text: str, separator: str) -> list[str]:
    """The first row of a text."""
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])


def _header(file: Path, wanted: tuple[str, str]) -> tuple[str, list[str]]:
    """The separator, and the names of the columns.

    Raises:
      ValueError: what is wrong with the beginning of the table.
    """
    with file.open("rb") as f:
        start = f.read(1 << 20)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16; save it as UTF-8")
    # The cut may lie within a character; a BOM is no part of the first name.
    text = start.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        headers = {
            separator: [name.strip() for name in _parse(text, separator)]
            for separator in _SEPARATORS
        }
    except csv.Error as error:
        raise ValueError(f"its first row cannot be parsed: {error}") from None
    # That with the columns wanted, else the one that divides most.
    return max(
        headers.items(), key=lambda item: (set(wanted) <= set(item[1]), len(item[1]))
    )


def _place(name: str, header: list[str]) -> int:
    if name in header:
        return header.index(name)
    similar = patterns.nearest(name, header)
    shown = ", ".join(column[:40] for column in header[:20]) or "none"
    raise ValueError(
        f"no column {name}; the first row has to name the columns, and has: {shown}"
        f"{f' (the nearest is {similar})' if similar else ''}; name yours by "
        "config.data.columns=IMAGE,CAPTION"
    )


def _scan(file: Path, separator: str) -> tuple[np.ndarray, str]:
    """Where rows that are not blank begin, then the table's end; its content's hash.

    Raises:
      ValueError: a quote that nothing closes, or no rows at all.
    """
    # As csv parses: a quote opens at the beginning of a field alone, and two are one.
    # The literal first, as that is what the engine searches fast.
    before = b"[\n\r" + separator.encode() + b"]"
    quoted = re.compile(
        rb'"(?:(?<=\A")|(?<=' + before + rb'"))[^"]*+(?:""[^"]*+)*+("|\Z)'
    )
    digest, found, position, rest = hashlib.sha256(), [], 0, b""
    with file.open("rb") as f:
        while block := f.read(_BLOCK):
            digest.update(block)
            rest += block
            ends = _row_ends(rest, quoted, position)
            starts = np.insert(ends[:-1], 0, 0)[: len(ends)]
            found.append(starts[~_is_blank(rest, starts, ends)] + position)
            last = int(ends[-1]) if len(ends) else 0
            position, rest = position + last, rest[last:]
            if len(rest) > _LONGEST_ROW:
                raise ValueError(f"no row ends after byte {position}; is it a table?")
    _refuse_open_quote(quoted, rest, position)
    if rest.strip(b"\r\n"):
        found.append(np.array([position]))
    found.append(np.array([position + len(rest)]))
    return np.concatenate(found).astype(np.int64), digest.hexdigest()


def _row_ends(buffer: bytes, quoted: re.Pattern, position: int) -> np.ndarray:
    """The places after line breaks that surely end a row; the buffer begins with one.

    What follows a quoted field at the end of the buffer is left for the next one.
    """
    ends = np.flatnonzero(np.frombuffer(buffer, np.uint8) == ord("\n")) + 1
    spans = []
    for match in quoted.finditer(buffer):
        start, end = match.span()
        if end == len(buffer):
            if end - start > _LONGEST_FIELD:
                _refuse_open_quote(quoted, buffer[start:], position + start)
            ends = ends[ends <= start]
        elif buffer.find(b"\n", start, end) >= 0:
            spans.append((start, end))
    if spans:
        opened, closed = np.array(spans).T
        field = np.searchsorted(opened, ends) - 1
        ends = ends[(field < 0) | (ends > closed[field])]
    return ends


def _is_blank(buffer: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    content = np.frombuffer(buffer, np.uint8)
    lengths = ends - starts
    return (lengths == 1) | ((lengths == 2) & (content[starts] == ord("\r")))


def _refuse_open_quote(quoted: re.Pattern, rest: bytes, position: int) -> None:
    for match in quoted.finditer(rest):
        if not match[1]:
            raise ValueError(
                f"the quote at byte {position + match.start()} is closed nowhere; "
                "close it, or double it and quote the field"
            )
