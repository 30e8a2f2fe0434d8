"""What the files of a data set and their names say, before any record is read."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cloob_jax.data import patterns, tar_index
from cloob_jax.data.files import File, as_file
from cloob_jax.data.mixture import Mixture
from cloob_jax.data.protocol import Fault, Sharded, Source
from cloob_jax.data.remote_files import RemoteFile
from cloob_jax.preparation.findings import LIMITS, Fact, Finding, of

_EXAMPLES = 3
_READERS = 8  # threads, of which most wait for the disk
# What a reason says -> what it is, and what to do about it.
_FAULTS = (
    (
        r"truncated|no tar header|broken pax",
        ("damaged tars", "fetch them anew; what lies before the damage is used"),
    ),
    (
        r"^no txt member|no .txt beside",
        ("images without a caption", "they are left out; give each a .txt of its name"),
    ),
    (
        r"^no image member",
        ("captions without an image", "they are left out; add the image, or go on"),
    ),
    (r"the file is missing", ("missing files", "fetch or write them anew")),
    (
        r"cannot be listed",
        ("closed folders", "allow to read them: chmod -R u+rX FOLDER"),
    ),
)


def left_out(faults: list[Fault]) -> Iterator[Fact | Finding]:
    """What the index could not use, by what it is."""
    kinds: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    empty = 0
    for fault in faults:
        rows = re.match(r"(\d+) rows without an image", fault.reason)
        if rows:
            empty += int(rows[1])
        else:
            kinds[_kind(fault.reason)].append(fault)
    if empty:  # as img2dataset leaves them
        text = f"{empty:,} rows without an image, failed downloads, are passed over"
        yield Fact("passed over", text, {"rows_without_image": empty})
    for (name, fix), those in kinds.items():
        count = len(those)
        shards = {fault.shard for fault in those}
        places = f"{len(shards):,} files" if len(shards) > 1 else those[0].shard
        text = f"{count:,} in {places}"
        examples = [
            f"{fault.shard} {fault.key}: {fault.reason}".replace(" :", ":")
            for fault in those[:_EXAMPLES]
        ]
        yield Finding(name, count, text, fix, examples)


def _kind(reason: str) -> tuple[str, str]:
    for pattern, kind in _FAULTS:
        if re.search(pattern, reason):
            return kind
    return "left out", "see the reason"


def spread(source: Source) -> Iterator[Fact | Finding]:
    """How the records are spread over files, and which files are not whole."""
    leaves = _leaves(source)
    layouts = {leaf.layout: None for leaf in leaves if hasattr(leaf, "layout")}
    if layouts:
        yield Fact("columns", "; ".join(layouts), {"layouts": list(layouts)})
    shards = [
        pair for leaf in leaves if isinstance(leaf, Sharded) for pair in leaf.shards()
    ]
    if not shards:
        return
    files, counts = [_path(file) for file, _ in shards], [n for _, n in shards]
    median = statistics.median(counts)
    names = patterns.below_common_folder(files)
    between = f", {names[0]} to {names[-1]}" if len(names) > 1 else f", {names[0]}"
    each = f"{median:,.0f} records each"
    if min(counts) < max(counts):
        each = f"{min(counts):,} to {max(counts):,} records, median {median:,.0f}"
    yield Fact(
        "files",
        f"{len(files):,}{between}; {each}",
        {"files": len(files), "least": min(counts), "most": max(counts)},
    )
    last = {file.parent: file for file in files}
    few = [
        f"{name}: {count} records"
        for file, name, count in zip(files, names, counts, strict=True)
        if count < LIMITS["nearly_empty"] * median and file != last[file.parent]
    ]
    if few:
        yield Finding(
            "nearly empty files",
            len(few),
            f"{of(len(few), len(files))}, where the median has {median:,.0f} records",
            "fetch them anew, or leave them out",
            few[:_EXAMPLES],
        )
    yield from _img2dataset(files, names)


def _path(file: Path | RemoteFile) -> Path:
    return file.absolute() if isinstance(file, Path) else Path(file.url)


def _img2dataset(files: list[Path], names: list[str]) -> Iterator[Finding]:
    """Tars that img2dataset has not completed, or that are missing among them."""
    finished = {file for file in files if _stats(file).is_file()}
    folders = {file.parent for file in finished}
    unfinished = [
        name
        for file, name in zip(files, names, strict=True)
        if file.parent in folders and file not in finished
    ]
    if unfinished:
        yield Finding(
            "unfinished tars",
            len(unfinished),
            f"{of(len(unfinished), len(files))} lack the _stats.json of a finished one",
            "run img2dataset again with the same options: it goes on there",
            unfinished[:_EXAMPLES],
        )
    missing = list(_gaps(files))
    if missing:
        yield Finding(
            "missing numbers",
            len(missing),
            f"{len(missing):,} among {len(files):,} files that are numbered",
            "fetch them, unless they were left out on purpose",
            [str(file) for file in missing[:_EXAMPLES]],
        )


def _stats(file: Path) -> Path:
    return file.with_name(f"{file.stem}_stats.json")


def _gaps(files: list[Path]) -> Iterator[Path]:
    """Numbers that are missing in folders of 00000.tar, 00001.tar and so on."""
    numbered = defaultdict(set)
    for file in files:
        if re.fullmatch(r"\d+", file.stem):
            numbered[file.parent, len(file.stem), file.suffix].add(int(file.stem))
    for (folder, digits, suffix), numbers in numbered.items():
        count = range(min(numbers), max(numbers) + 1)
        # Where more are missing than there are, the numbers are no count: years, dates.
        if len(count) < 2 * len(numbers):
            missing = (number for number in count if number not in numbers)
            yield from (folder / f"{n:0{digits}d}{suffix}" for n in missing)


def keys(
    source: Source, at_most: int, report: Callable[[int, int], None]
) -> Iterator[Fact | Finding]:
    """Keys that come up more than once in a tar: the index takes the first of each.

    Args:
      source: of the records.
      at_most: tars whose headers are read, evenly spread.
      report: is called with the number of tars done, and of all.
    """
    shards = [shard for leaf in _leaves(source) for shard in _tars(leaf)]
    chosen = shards[:: -(-len(shards) // at_most)] if shards else []
    if not chosen:
        return
    twice: list[str] = []
    several: list[str] = []
    hashes = []
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda shard: Counter(tar_index.entries(shard)), chosen)
        for number, (shard, entries) in enumerate(zip(chosen, found, strict=True), 1):
            again = {key for (key, _), count in entries.items() if count > 1}
            images = Counter(
                key for key, ending in entries if ending in tar_index.IMAGE_EXTENSIONS
            )
            twice += (f"{shard.name} {key}" for key in sorted(again))
            several += (f"{shard.name} {k}" for k in sorted(images) if images[k] > 1)
            distinct = {hash(key) for key, _ in entries}
            hashes.append(np.fromiter(distinct, np.int64, len(distinct)))
            report(number, len(chosen))
    _, num_tars = np.unique(np.concatenate(hashes), return_counts=True)
    elsewhere = int((num_tars > 1).sum())
    yield Fact(
        "keys",
        f"{len(num_tars):,} in the {len(chosen):,} tars looked at; "
        f"{elsewhere:,} are in several",
        {"tars": len(chosen), "keys": len(num_tars), "in_several": elsewhere},
    )
    for name, those, fix in (
        ("repeated keys", twice, "give each pair of a tar a key of its own"),
        ("several images under one key", several, "leave one image under each key"),
    ):
        if those:
            text = f"{len(those):,} in {len(chosen):,} tars: the first of each is used"
            yield Finding(name, len(those), text, fix, those[:_EXAMPLES])


def _tars(source: Source) -> list[File]:
    shards = source.shards() if isinstance(source, Sharded) else []
    return [as_file(file) for file, _ in shards if file.name.endswith(".tar")]


def _leaves(source: Source) -> list[Source]:
    if not isinstance(source, Mixture):
        return [source]
    return [leaf for part in source.parts for leaf in _leaves(part)]
