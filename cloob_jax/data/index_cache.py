"""Indices of data that have none of their own: made once, kept, and mapped."""

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from cloob_jax import user_cache
from cloob_jax.data import remote_files
from cloob_jax.errors import UserError


def find_or_make(
    identity: Iterable[str],
    make: Callable[[], tuple[np.ndarray, Any]],
    beside: tuple[str, Iterable[str]] | None = None,
) -> tuple[Path, Any]:
    """An index by what it is of, from the cache directory if an earlier run made it.

    Args:
      identity: of the data and of how it is indexed; another one, another index.
      make: gives the index and a report, which has to be JSON.
      beside: the folder of the data, where `keep` may have left an index, and what
        that was told.

    Returns:
      The file of the index, to be mapped, and the report.

    Raises:
      UserError: there is no place to keep it; or what `make` raises.
    """
    file = user_cache.directory("index") / f"{_digest(identity)}.npy"
    report_file = file.with_suffix(".json")  # written last: it stands for the whole
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
        np.load(file, mmap_mode="r")
        return file, json.loads(report_file.read_text())
    # There is none, or a machine that went down has left a damaged one.
    if beside is not None:
        folder, kept = beside[0], _beside_name(beside[1])
        with contextlib.suppress(Exception):  # each storage has errors of its own
            for suffix in (".npy", ".json"):
                content = functools.partial(_fetch, folder, kept + suffix)
                _replace(file.with_suffix(suffix), content)
            np.load(file, mmap_mode="r")
            return file, json.loads(report_file.read_text())
    index, report = make()
    _replace(file, lambda f: np.save(f, index))
    _replace(report_file, lambda f: f.write(json.dumps(report).encode()))
    return file, report


def keep(index: Path, folder: str, identity: Iterable[str]) -> str:
    """Puts an index and its report into the folder of the data.

    Args:
      index: a file that `find_or_make` gave.
      folder: a path or a URL.
      identity: of the data, wherever the folder lies.

    Returns:
      The name of the index there.

    Raises:
      UserError: it cannot be written.
    """
    name = _beside_name(identity)
    try:
        for suffix in (".npy", ".json"):
            remote_files.put(index.with_suffix(suffix), folder, name + suffix)
    except Exception as error:  # each storage has errors of its own
        reason = str(error) or type(error).__name__
        raise UserError(f"{folder}: the index cannot be kept there: {reason}") from None
    return f"{name}.npy"


def _beside_name(identity: Iterable[str]) -> str:
    return f".cloob_jax_index_{_digest(identity)}"


def _digest(identity: Iterable[str]) -> str:
    text = "\n".join(identity).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:32]


def _fetch(folder: str, name: str, file: IO[bytes]) -> None:
    remote_files.get(folder, name, Path(file.name))


def _replace(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file beside its place and renames it, so that no half of it is seen."""
    try:
        temporary = tempfile.NamedTemporaryFile(dir=file.parent, delete=False)
        try:
            with temporary:
                write(temporary)
            os.replace(temporary.name, file)
        except BaseException:
            os.unlink(temporary.name)
            raise
    except OSError as error:
        raise UserError(
            f"{file.parent}: {error.strerror or error}; the index of the data needs "
            "room, set XDG_CACHE_HOME to a folder that has some"
        ) from None
