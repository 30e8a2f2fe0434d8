"""What lies where in Parquet files, of which they tell themselves."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cloob_jax.data import files, patterns
from cloob_jax.errors import UserError

# As img2dataset and Hugging Face call them; the first that is there.
_IMAGE_COLUMNS = ("jpg", "png", "webp", "image")
_CAPTION_COLUMNS = ("caption", "text", "title")


def library(field: str) -> Any:
    """pyarrow's module, which is an extra.

    Args:
      field: the config field that asks for it.

    Raises:
      UserError: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{field}: Parquet files need pyarrow: pip install 'cloob_jax[parquet]'"
        ) from None
    return parquet


def scan(
    field: str, found: Sequence[files.File], columns: tuple[str, str] | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Row groups `[n, 4]`: file, number in it, first row, records up to its end.

    Also `columns`, those of images and of captions, and `without`, the numbers of files
    with how many rows have no image.

    Raises:
      UserError: a file cannot be read or lacks a column.
    """
    parquet = library(field)

    def read(file: files.File) -> Any:
        try:
            return parquet.read_metadata(files.Stream(file))
        except (OSError, ValueError) as error:
            first, *_ = str(error).splitlines()
            raise UserError(
                f"{field}={file} cannot be read as Parquet ({first}); fetch it anew"
            ) from None

    # Threads, for disks with latency.
    with ThreadPoolExecutor(8) as pool:
        metadata = list(pool.map(read, found))
    chosen = None
    groups, without = [], []
    for number, (file, content) in enumerate(zip(found, metadata, strict=True)):
        schema = content.schema.to_arrow_schema()
        try:
            chosen = _choose(schema, chosen or columns)
        except ValueError as error:
            raise UserError(f"{field}={file}: {error}") from None
        row, nulls = 0, 0
        for group in range(content.num_row_groups):
            size, empty = _count(content.row_group(group), chosen[0])
            groups.append((number, group, row, size - empty))
            row, nulls = row + size, nulls + empty
        if nulls:
            without.append((number, nulls))
    index = np.array(groups, np.int64).reshape(-1, 4)
    index[:, -1] = np.cumsum(index[:, -1])
    return index, {"columns": chosen, "without": without}


def _count(group: Any, image: str) -> tuple[int, int]:
    """The rows of a row group, and how many have a null for the image itself."""
    for number in range(group.num_columns):
        column = group.column(number)
        # The parts of a struct have longer paths: a null there may leave the other.
        if column.path_in_schema == image:
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count:
                return group.num_rows, statistics.null_count
    return group.num_rows, 0


def extent(group: Any, columns: Sequence[str]) -> tuple[int, int]:
    """Where in its file a row group has these columns, the parts of structs too."""
    places = []
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema.partition(".")[0] in columns:
            # There may be no page of a dictionary, for which some files have a 0.
            start = column.dictionary_page_offset or column.data_page_offset
            places.append((start, start + column.total_compressed_size))
    starts, ends = zip(*places, strict=True)
    return min(starts), max(ends)


def _choose(schema: Any, columns: tuple[str, str] | None) -> tuple[str, str]:
    """The columns of images and captions.

    Raises:
      ValueError: there are none, or of other types.
    """
    found = []
    for what, number, usual, fits in (
        ("images", 0, _IMAGE_COLUMNS, _may_be_image),
        ("captions", 1, _CAPTION_COLUMNS, _may_be_caption),
    ):
        wanted = (columns[number],) if columns else usual
        there = [name for name in wanted if name in schema.names]
        if not there:
            similar = patterns.nearest(wanted[0], schema.names)
            raise ValueError(
                f"no column {' or '.join(wanted)} with {what}; there are: "
                f"{', '.join(schema.names[:20])}"
                f"{f' (the nearest is {similar})' if similar else ''}; name yours by "
                "config.data.columns=IMAGE,CAPTION"
            )
        kind = str(schema.field(there[0]).type)
        if not fits(kind):
            raise ValueError(f"the column {there[0]} holds {kind[:60]}, not {what}")
        found.append(there[0])
    return found[0], found[1]


def _may_be_image(kind: str) -> bool:
    return "binary" in kind or "string" in kind


def _may_be_caption(kind: str) -> bool:
    return "string" in kind and not kind.startswith("struct")
