"""The run directory: made, held by one run at a time, and described."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from cloob_jax import bucket, user_cache, writers
from cloob_jax.errors import Outage, UserError
from cloob_jax.process_group import ProcessGroup

_VISIBLE_SECONDS = 10.0  # until a file of process 0 is seen by the others


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run writes.

    Attributes:
      files: what process 0 writes alone; and the others, each under names of its own.
      shared: what all processes write together; the same folder, but for buckets.
      sync: asks that `files` are soon where they belong.
    """

    files: Path
    shared: epath.Path
    sync: Callable[[], None] = lambda: None


@contextlib.contextmanager
def held(workdir: Path, group: ProcessGroup) -> Iterator[Place]:
    """Makes `workdir` and keeps other runs from training in it meanwhile; collective.

    Raises:
      UserError: it cannot be made or written, or is not one and the same for all
        processes.
      Outage: another run holds it, as one does that is just about to end.
    """
    url = bucket.url_of(workdir)
    with contextlib.ExitStack() as stack:
        if url is not None:
            folder = user_cache.directory("runs")
            folder /= f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{group.index}"
            mirror = bucket.Mirror(url, folder, group.is_leader)
            with group.leader_first():
                stack.enter_context(mirror)
            yield Place(folder, epath.Path(url), mirror.soon)
            return
        with group.leader_first():
            if group.is_leader:
                stack.enter_context(_locked(workdir))
        _check_shared(workdir, group)
        yield Place(workdir, epath.Path(workdir))


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: {error.strerror}; give a folder that can be written"
        ) from None
    with file:
        try:
            # The system frees a dead process's lock.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network disks know no locks; there the user must take care.
            if error.errno == errno.EWOULDBLOCK:
                raise Outage(
                    f"--workdir={workdir}: another run is training in it; wait for "
                    "it, or give another --workdir"
                ) from None
        yield


def _check_shared(workdir: Path, group: ProcessGroup) -> None:
    """Makes sure that the processes, which all write checkpoints, write them together.

    Raises:
      UserError: this process does not see what process 0 has just written.
    """
    if group.size == 1:
        return
    beacon = workdir / f".beacon-{group.share(secrets.token_hex(8))}"
    if group.is_leader:
        beacon.touch()
    group.share()
    # Network disks may take a while to show what others have written.
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while not beacon.exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"--workdir={workdir}: not the folder that process 0 writes; give one "
                "on a disk that all processes share"
            )
        time.sleep(0.2)
    group.reduce(None, lambda _: beacon.unlink())


def describe(workdir: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`, and a copy of the tokenizer's file if there is one.

    Args:
      workdir: the run directory.
      config: plain, as JSON gives it back.
    """
    writers.write_json(workdir / "config.json", config)
    source, copy = config["data"].get("tokenizer"), workdir / "tokenizer.json"
    if source and not (copy.exists() and copy.samefile(source)):
        shutil.copyfile(source, copy)


def tokenizer_of(workdir: Path, config: dict[str, Any]) -> str | None:
    """The path of the tokenizer's file: of the copy, if it is there."""
    copy = workdir / "tokenizer.json"
    source = config["data"].get("tokenizer")
    return str(copy) if source and copy.is_file() else source
