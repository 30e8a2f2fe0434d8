"""Where image-caption pairs come from: a pattern on the command line becomes a source.

A source has a length, random access to `(image bytes, caption bytes)`, `name(record)`
for reports, a `fingerprint` that says whether it is still the same data, and `faults`:
what could not be used at all.
"""

import difflib
import glob
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from cloob_jax.data.tar_index import Fault
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError


@runtime_checkable
class Source(Protocol):
    """Pairs of image and caption with random access; safe in threads, picklable."""

    fingerprint: str
    faults: list[Fault]

    def __len__(self) -> int:
        """How many records there are."""
        ...

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        """The encoded image and the caption file of one record."""
        ...

    def name(self, record: int) -> tuple[str, str]:
        """The shard and the key of one record."""
        ...


def build(pattern: str) -> Source:
    """The source that `pattern` names: tars of img2dataset or WebDataset.

    Args:
      pattern: a tar, a folder of tars, a glob (`/data/*.tar`) or a range in braces
        (`/data/{00000..00331}.tar`).

    Raises:
      UserError: nothing matches, some of a range is missing, or no pair is inside.
    """
    return TarRecords(find_shards(pattern, "config.data.train"), companion="txt")


def find_shards(pattern: str, field: str) -> list[Path]:
    """The tars that `pattern` names, in the order of their names.

    Args:
      pattern: see `build`.
      field: the config field it came from, for the message.
    """
    if not pattern:
        raise UserError(f"{field} is empty; give it tars, such as /data/{{00..31}}.tar")
    if "://" in pattern:
        raise UserError(
            f"{field}={pattern}: only local paths are read; mount the bucket "
            "(gcsfuse, mountpoint-s3) or copy the shards, and give the path"
        )
    names = expand_braces(pattern)
    matches = [sorted(_match(name), key=_natural) for name in names]
    if not any(matches):
        raise UserError(
            f"{field}={pattern}: no such tar; looked in "
            f"{Path(names[0]).parent.resolve()}{_nearest(names[0])}; point "
            f"--{field} to your tars, as img2dataset or webdataset write them: "
            "/data/{00000..00331}.tar, a glob, or a folder (README, Your data)"
        )
    missing = [name for name, found in zip(names, matches, strict=True) if not found]
    if missing:
        raise UserError(
            f"{field}={pattern}: {len(missing)} of {len(names)} tars are missing, the "
            f"first is {missing[0]}; correct the range, or use a glob (*.tar) to take "
            "what there is"
        )
    return list(itertools.chain.from_iterable(matches))


def expand_braces(pattern: str) -> list[str]:
    """Expands `{000..012}` (keeping zeros) and `{a,b}` as a shell does."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", found.group(1))
    if limits:
        first, last = limits.groups()
        step = 1 if int(first) <= int(last) else -1
        numbers = range(int(first), int(last) + step, step)
        choices: Sequence[str] = [f"{number:0{len(first)}d}" for number in numbers]
    else:
        choices = found.group(1).split(",")
    return [
        before + choice + rest for choice in choices for rest in expand_braces(after)
    ]


def _match(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        return list(path.glob("*.tar"))
    if path.is_file():
        return [path]
    return [Path(match) for match in glob.glob(str(path)) if Path(match).is_file()]


def _natural(path: Path) -> list:
    """Orders 2.tar before 10.tar, whatever the zeros."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdigit() else part for part in parts]


def _nearest(name: str) -> str:
    """What lies where the first name was looked for, if something similar does."""
    folder = Path(name).expanduser().parent
    if not folder.is_dir():
        return ", which does not exist"
    similar = difflib.get_close_matches(
        Path(name).name, [entry.name for entry in folder.iterdir()], 1, cutoff=0.3
    )
    return (
        f", where the nearest name is {similar[0]}" if similar else ", which has none"
    )
