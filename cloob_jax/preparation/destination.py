"""The folder that a conversion fills: what it is of, and what of it is done.

prepare.json    the plan, and when all is done what became of the records
dropped.jsonl   the records that were left out, with their reasons
.shards/        a JSON for each file that is whole, by which the same command goes on
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import IO

from etils import epath

from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError
from cloob_jax.preparation.shard_writing import Plan, Tally

_STATE = "prepare.json"
_FAULT = "incomplete"  # the kind of what the source itself could not use
_NUM_THREADS = 16  # for storage with latency
_AHEAD = 1000


@dataclasses.dataclass
class Result:
    """What became of all records.

    Attributes:
      path: of the list of those that were left out.
      lengths: how many could be used, in each file.
      sizes: of the files, in bytes.
      bytes_before: of their pictures, in the source.
      bytes_after: the same, as they were written.
      most_captions: that a record has.
      dropped: how many were left out of each kind.
    """

    path: str
    lengths: list[int] = dataclasses.field(default_factory=list)
    sizes: list[int] = dataclasses.field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0
    most_captions: int = 0
    dropped: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )

    @property
    def written(self) -> int:
        """How many could be used."""
        return sum(self.lengths)

    def add(self, tally: Tally, size: int) -> None:
        """Those of the next file."""
        self.lengths.append(tally.written)
        self.sizes.append(size)
        self.bytes_before += tally.bytes_before
        self.bytes_after += tally.bytes_after
        self.most_captions = max(self.most_captions, tally.most_captions)
        self.dropped.update(row["kind"] for row in tally.dropped)


class Destination:
    """A folder, here or in a bucket, that holds the files of one plan."""

    def __init__(self, folder: epath.Path, plan: Plan):
        """Begins, or goes on.

        Raises:
          UserError: the folder holds something else.
        """
        self.folder, self._plan = folder, plan
        self._state = folder / _STATE
        if self._state.exists():
            self._refuse_others()
        elif folder.exists() and not (folder.is_dir() and _is_empty(folder)):
            raise UserError(
                f"DEST={folder} holds something else ({_STATE} is missing); give a "
                "folder that is empty or not there"
            )
        self._note(0).parent.mkdir(parents=True, exist_ok=True)
        if not self._state.exists():
            with _replacing(self._state) as file:
                file.write(json.dumps(dataclasses.asdict(plan), indent=2) + "\n")

    def finished(self) -> set[int]:
        """The numbers of the files that are whole.

        One that was removed or cut since is none of them.
        """
        return {number for number, note in self._notes() if note}

    def take(self, file: epath.Path) -> None:
        """Copies a file to where it belongs; it appears there when it is whole."""
        path = self.folder / file.name
        beside = _beside(path)
        file.copy(beside)
        beside.replace(path)

    def finish(self, number: int, tally: Tally) -> None:
        """Notes that a file is whole."""
        size = (self.folder / self._plan.name(number)).stat().length
        content = {"size": size, **dataclasses.asdict(tally)}
        with _replacing(self._note(number)) as file:
            json.dump(content, file)

    def conclude(self, faults: Sequence[Fault]) -> Result:
        """Lists what was dropped, when all files are whole.

        Args:
          faults: what the source itself left out.

        Raises:
          UserError: a file is not.
        """
        for leftover in self.folder.glob(".*.partial"):  # of processes that were killed
            leftover.unlink(missing_ok=True)
        result = Result(path=str(self.folder / "dropped.jsonl"))
        with _replacing(epath.Path(result.path)) as file:
            for fault in faults:
                result.dropped[_FAULT] += 1
                row = {**dataclasses.asdict(fault), "kind": _FAULT}
                file.write(json.dumps(row) + "\n")
            for number, note in self._notes():
                if note is None:
                    name = self._plan.name(number)
                    raise UserError(
                        f"DEST={self.folder}: {name} has gone or changed meanwhile; "
                        "the same command writes it anew"
                    )
                tally, size = note
                result.add(tally, size)
                file.writelines(json.dumps(row) + "\n" for row in tally.dropped)
        content = {
            **dataclasses.asdict(self._plan),
            "written": result.written,
            "dropped": dict(result.dropped),
        }
        with _replacing(self._state) as file:
            file.write(json.dumps(content, indent=2) + "\n")
        return result

    def _refuse_others(self) -> None:
        try:
            found = dict(json.loads(self._state.read_text()))
        except (TypeError, ValueError):
            raise UserError(
                f"{self._state} is damaged; remove {self.folder} to have it made anew"
            ) from None
        wanted = dataclasses.asdict(self._plan)
        if found.get("source") != wanted["source"]:
            raise UserError(
                f"DEST={self.folder} is of another SOURCE, or SOURCE has changed since "
                "(its fingerprint is another); give another DEST, or remove this one"
            )
        differences = ", ".join(
            f"{name}={value} instead of {found.get(name)}"
            for name, value in wanted.items()
            if found.get(name) != value
        )
        if differences:
            raise UserError(
                f"DEST={self.folder} was begun with other settings ({differences}); "
                "give those, or another DEST"
            )

    def _notes(self) -> Iterator[tuple[int, tuple[Tally, int] | None]]:
        """The number of each file; if it is whole what became of its records, its size.

        In portions, so that few of the dropped records are in memory.
        """
        numbers = range(self._plan.num_shards)
        with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
            for start in range(0, len(numbers), _AHEAD):
                some = numbers[start : start + _AHEAD]
                yield from zip(some, pool.map(self._read, some), strict=True)

    def _read(self, number: int) -> tuple[Tally, int] | None:
        try:
            content = json.loads(self._note(number).read_text())
            size = (self.folder / self._plan.name(number)).stat().length
            return (Tally(**content), size) if content.pop("size") == size else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _note(self, number: int) -> epath.Path:
        return self.folder / ".shards" / f"{number:05d}.json"


def _is_empty(folder: epath.Path) -> bool:
    # A process that was killed at once has left hidden files.
    return all(path.name.startswith(".") for path in folder.iterdir())


@contextlib.contextmanager
def _replacing(path: epath.Path) -> Iterator[IO[str]]:
    """Opens a file to be written, which no reader sees before it is whole."""
    beside = _beside(path)
    try:
        with beside.open("w") as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _beside(path: epath.Path) -> epath.Path:
    # A name of its own, since two workers of a pipeline may do the same at once.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
