"""What lies where in WebDataset tars: an index of offsets, built once and kept.

A tar has no table of contents, so the first use of a set of shards reads all headers,
never the contents, and keeps what it found in the cache directory. Python's `tarfile`
finds the same, at a fifth of the speed or less.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cloob_jax import worker_pool
from cloob_jax.data import files, index_cache
from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError

# To be raised when the same tars would be indexed otherwise.
_VERSION = 2
_BLOCK = 512
_NUM_THREADS = 16
_MANY = 64  # shards that are worth the start of processes
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    header: int  # where its first header begins, which may be one of several
    offset: int  # where its contents begin
    size: int


def cached_index(
    shards: Sequence[files.File],
    companion: str,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Path, list[Fault]]:
    """The file of the index of `shards`, made if no earlier run did, and its faults.

    It is int64 `[records, 6]`, to be mapped: the shard's number, offset and size of the
    image, offset and size of the companion, offset of the image's header.

    Raises:
      UserError: a shard that cannot be read or is compressed, shards without a single
        complete record, or no place to keep an index.
    """

    # By number: the next run may name the same shards by other paths.
    def make() -> tuple[np.ndarray, list[tuple[int, str, str]]]:
        index, faults = _build_index(shards, companion, report)
        numbers = {str(shard): number for number, shard in enumerate(shards)}
        return index, [(numbers[f.shard], f.key, f.reason) for f in faults]

    identity = [_kind(companion), *(shard.identity for shard in shards)]
    beside = _folder(shards[0]), _beside(shards, companion)
    file, faults = index_cache.find_or_make(identity, make, beside)
    return file, [Fault(str(shards[number]), *rest) for number, *rest in faults]


def keep(index: Path, shards: Sequence[files.File], companion: str, folder: str) -> str:
    """Puts an index into a folder, where `cached_index` looks as well.

    Raises:
      UserError: it cannot be written there.
    """
    return index_cache.keep(index, folder, _beside(shards, companion))


def _kind(companion: str) -> str:
    return f"tars {_VERSION} {companion}"


def _beside(shards: Sequence[files.File], companion: str) -> list[str]:
    """What the shards are, wherever their folder lies."""
    return [_kind(companion), *(f"{shard.name} {shard.version}" for shard in shards)]


def _folder(shard: files.File) -> str:
    return os.path.dirname(str(shard))


def key_at(shard: files.File, header: int) -> str:
    """The key of the member whose header begins at byte `header`.

    Raises:
      ValueError: there is none; the tar changed since it was indexed.
    """
    return _split(next(_members(shard, start=header)).name)[0]


def entries(shard: files.File) -> Iterator[tuple[str, str]]:
    """The key and the extension of each member, up to where the shard is damaged."""
    with contextlib.suppress(ValueError):
        for member in _members(shard):
            key, extension = _split(member.name)
            yield key, extension


def _split(name: str) -> tuple[str, str]:
    """A member's key and extension, by WebDataset's rule: the first dot divides."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _members(shard: files.File, start: int = 0) -> Iterator[_Member]:
    """Walks the headers of a tar (ustar, GNU and pax) from byte `start`.

    Raises:
      ValueError: what is wrong with the archive, and from which byte on.
    """
    # The whole of a far file passes by, the kernel reads what is near.
    is_near = start > 0 or isinstance(shard, files.LocalFile)
    read = shard.read if is_near else files.Ahead(shard).read
    end = shard.size
    position, first, long_name = start, None, None
    pax: dict[str, str] = {}
    while position < end:
        header = read(position, _BLOCK)
        if len(header) == _BLOCK and not header.strip(b"\0"):
            return
        if len(header) < _BLOCK:
            raise ValueError(f"truncated at byte {position}")
        if not _checksum_holds(header):
            raise ValueError(f"no tar header at byte {position}")
        first = position if first is None else first
        kind = header[156:157]
        size = _size(header, pax)
        data, position = position + _BLOCK, position + _BLOCK + _round_up(size)
        if data + size > end:
            raise ValueError(f"truncated at byte {end}: a member needs {size} bytes")
        if kind == b"L":
            long_name = _text(read(data, size))
        elif kind == b"x":
            pax = _pax_records(read(data, size))
        elif kind not in (b"g", b"K"):
            if kind in (b"0", b"\0", b"7"):
                name = pax.get("path") or long_name or _name(header)
                yield _Member(name, first, data, size)
            first, long_name, pax = None, None, {}
    raise ValueError("truncated: the end-of-archive marker is missing")


def _size(header: bytes, pax: dict[str, str]) -> int:
    size = int(pax.get("size", _number(header[124:136])))
    if size < 0:  # it would lead back, for ever
        raise ValueError(f"a member has a size of {size} bytes")
    return size


def _round_up(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    # GNU archives use the prefix field for other things.
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's base-256, for sizes past 8 GiB
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def _checksum_holds(header: bytes) -> bool:
    try:
        stored = _number(header[148:156])
    except ValueError:
        return False
    return stored == sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _pax_records(data: bytes) -> dict[str, str]:
    records = {}
    while data:
        digits, _, rest = data.partition(b" ")
        if not digits.isdigit() or not rest or int(digits) <= len(digits):
            raise ValueError("a broken pax header")
        length = int(digits)
        record = data[len(digits) + 1 : length].rstrip(b"\n")
        key, _, value = record.partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        data = data[length:]
    return records


def _scan(shard: files.File, companion: str) -> tuple[np.ndarray, list[Fault]]:
    """One shard's records, and its faults.

    The columns `[n, 5]` are those of the index without the shard's number.
    """
    images: dict[str, _Member] = {}
    others: dict[str, _Member] = {}
    faults = []
    try:
        if shard.read(0, 2) == b"\x1f\x8b":
            raise UserError(
                f"{shard} is compressed, so that records cannot be reached one by "
                "one; decompress it (gunzip) and point to the plain .tar"
            )
        for member in _members(shard):
            key, extension = _split(member.name)
            if extension in IMAGE_EXTENSIONS:
                images.setdefault(key, member)
            elif extension == companion:
                others.setdefault(key, member)
    except ValueError as error:
        faults.append(Fault(str(shard), "", str(error)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{shard}: {reason}; the shard must be readable") from None
    places = [
        (image.offset, image.size, other.offset, other.size, image.header)
        for image, other in (
            (images[key], others[key]) for key in images if key in others
        )
    ]
    for key in images.keys() ^ others.keys():
        lacking = companion if key in images else "image"
        faults.append(Fault(str(shard), key, f"no {lacking} member"))
    return np.array(places, np.int64).reshape(-1, 5), sorted(
        faults, key=lambda f: f.key
    )


def _build_index(
    shards: Sequence[files.File],
    companion: str,
    report: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, list[Fault]]:
    scans: dict[int, tuple[np.ndarray, list[Fault]]] = {}
    for number, scan in _scans(shards, companion):
        scans[number] = scan
        if report is not None:
            report(len(scans), len(shards))
    rows = [
        np.insert(scans[number][0], 0, number, axis=1) for number in range(len(shards))
    ]
    faults = [fault for number in range(len(shards)) for fault in scans[number][1]]
    index = np.concatenate(rows)
    if not len(index):
        extensions = ", ".join(IMAGE_EXTENSIONS)
        detail = f"; {faults[0].shard}: {faults[0].reason}" if faults else ""
        raise UserError(
            f"{_describe(shards)}: no record with an image ({extensions}) and a "
            f".{companion} member under one key{detail}"
        )
    return index, faults


def _scans(
    shards: Sequence[files.File], companion: str
) -> Iterator[tuple[int, tuple[np.ndarray, list[Fault]]]]:
    """Each shard's number and scan, as they are done."""
    near = all(isinstance(shard, files.LocalFile) for shard in shards)
    if near and len(shards) >= _MANY:
        # A process scans some 4 x 10^4 records a second, and so do all its threads.
        work = functools.partial(_scan_in_process, companion)
        items = list(enumerate(shards))
        with contextlib.suppress(worker_pool.Died):  # threads do it too
            for item, scan in worker_pool.results(work, items, worker_pool.num_cores()):
                yield item[0], scan
            return
    # Threads, for what has latency.
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        yield from enumerate(pool.map(_scan, shards, itertools.repeat(companion)))


def _scan_in_process(
    companion: str, item: tuple[int, files.File], report: Callable
) -> tuple[np.ndarray, list[Fault]]:
    del report
    return _scan(item[1], companion)


def _describe(shards: Sequence[files.File]) -> str:
    more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
    return f"{shards[0]}{more}"
