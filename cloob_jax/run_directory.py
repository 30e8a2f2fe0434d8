"""The run directory: made, held by one run at a time, and described."""

import contextlib
import errno
import fcntl
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloob_jax import writers
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup

_VISIBLE_SECONDS = 10.0  # until a file of process 0 is seen by the others


@contextlib.contextmanager
def held(workdir: Path, group: ProcessGroup) -> Iterator[None]:
    """Makes `workdir` and keeps other runs from training in it meanwhile; collective.

    Raises:
      UserError: it cannot be made or written, another run holds it, or it is not one
        and the same for all processes.
    """
    if ":/" in str(workdir):
        raise UserError(
            f"--workdir={workdir}: only local paths are written; mount the bucket "
            "(gcsfuse, mountpoint-s3) and give the path"
        )
    with contextlib.ExitStack() as stack:
        with group.leader_first():
            if group.is_leader:
                stack.enter_context(_locked(workdir))
        _check_shared(workdir, group)
        yield


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
                raise UserError(
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
