"""The run directory: made, and held by one process at a time."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

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
