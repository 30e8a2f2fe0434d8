"""The run directory: made, held by one process at a time, and described."""

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloob_jax import writers
from cloob_jax.errors import UserError


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes `workdir` and keeps other processes from training in it meanwhile.

    Raises:
      UserError: it cannot be made or written, or another process holds it.
    """
    if ":/" in str(workdir):
        raise UserError(
            f"--workdir={workdir}: only local paths are written; mount the bucket "
            "(gcsfuse, mountpoint-s3) and give the path"
        )
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
                    f"--workdir={workdir}: another process is training in it; wait for "
                    "it, or give another --workdir"
                ) from None
        yield


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
