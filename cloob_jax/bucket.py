"""A run directory in a bucket: small files are written here and copied there.

Checkpoints do not come through here: all processes write them into the bucket together.
A bucket knows no locks: instead process 0 gives a sign of life in `.lease.json`.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

from cloob_jax import filesystems, writers
from cloob_jax.errors import Outage, UserError

_PERIOD_SECONDS = 15.0  # between two copies, which are signs of life too
_LEASE = ".lease.json"
# What is not brought here: what all processes write, and what only people look at.
_LEFT_THERE = {"checkpoints", "damaged", "autopsy", "profile", "stacks"}


def url_of(workdir: Path) -> str | None:
    """The URL that a path was made of; None where it is a path.

    Raises:
      UserError: checkpoints cannot be written there.
    """
    found = re.fullmatch(r"(\w+):/+(.+)", str(workdir))
    if found is None:
        return None
    if found[1] != "gs":  # Orbax 0.12 writes arrays into no others
        raise UserError(
            f"--workdir={found[1]}://{found[2]}: expected a folder or gs://BUCKET/RUN"
        )
    return f"{found[1]}://{found[2]}"


class Mirror:
    """Keeps the bucket like a local folder while entered, from a thread."""

    def __init__(self, url: str, folder: Path, is_leader: bool):
        """Opens the bucket.

        Args:
          url: of the run directory.
          folder: the local one, which is emptied.
          is_leader: whether it holds the lease, and goes on with the files of a run.

        Raises:
          UserError: a library lacks.
        """
        self._url, self._folder, self._is_leader = url, folder, is_leader
        try:
            self._files, root = filesystems.open_url(url)
        except ImportError as error:
            raise UserError(f"--workdir={url}: {error}") from None
        self._root = root.rstrip("/")
        self._copied: dict[str, tuple[int, int]] = {}
        self._identity, self._beat = secrets.token_hex(8), 0
        self._wake, self._is_ending = threading.Event(), False
        self._is_whole = False  # in the bucket, of what is here
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Mirror":
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            if self._is_leader:
                self._take_lease()
                self._pull()
        except UserError:
            raise
        except Exception as error:  # each library has errors of its own
            raise UserError(f"--workdir={self._url}: {_line(error)}") from None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending = True
        self._wake.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            if self._is_leader:
                self._files.rm_file(f"{self._root}/{_LEASE}")
        if self._is_whole:
            shutil.rmtree(self._folder, ignore_errors=True)

    def soon(self) -> None:
        """Asks for a copy now, from any thread."""
        self._wake.set()

    def _work(self) -> None:
        is_told = is_ending = False
        while not is_ending:
            self._wake.wait(_PERIOD_SECONDS)
            self._wake.clear()
            # Asked before and not after a copy, which may have missed the last words.
            is_ending = self._is_ending
            try:
                self._push()
                if self._is_leader:
                    self._write_lease()
                is_told = False
            except Exception as error:  # each library has errors of its own
                if is_ending or not is_told:
                    then = f"see {self._folder}" if is_ending else "trying again"
                    writers.warn(f"{self._url}: {_line(error)}; {then}")
                is_told = True
        self._is_whole = not is_told

    def _push(self) -> None:
        """Copies what has changed."""
        for path in sorted(p for p in self._folder.rglob("*") if p.is_file()):
            name = path.relative_to(self._folder).as_posix()
            version = _version(path)
            if not path.name.startswith(".") and self._copied.get(name) != version:
                self._files.put_file(str(path), f"{self._root}/{name}")
                self._copied[name] = version

    def _pull(self) -> None:
        """Brings what a run goes on with."""
        for info in self._list(self._root):
            name = self._name(info["name"])
            if info["type"] == "file" and not name.startswith("."):
                self._fetch(info["name"])
            elif info["type"] == "directory" and name not in _LEFT_THERE:
                for path in self._files.find(info["name"]):
                    self._fetch(path)

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/")

    def _fetch(self, path: str) -> None:
        target = self._folder / self._name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._files.get_file(path, str(target))
        self._copied[self._name(path)] = _version(target)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        try:
            return self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return []

    def _take_lease(self) -> None:
        """Makes sure that no other run gives signs of life.

        Raises:
          Outage: one does.
        """
        first = self._read_lease()
        if first is not None and not _has_died(first):
            # By its own clock, since two machines' differ.
            deadline = time.monotonic() + 2.5 * _PERIOD_SECONDS
            while time.monotonic() < deadline:
                time.sleep(_PERIOD_SECONDS / 10)
                now = self._read_lease()
                if now is None:
                    break
                if now != first:
                    raise Outage(
                        f"--workdir={self._url}: another run is training in it, on "
                        f"{now.get('host')}; wait for it, or give another --workdir"
                    )
        self._write_lease()

    def _read_lease(self) -> dict[str, Any] | None:
        self._files.invalidate_cache()
        try:
            found = json.loads(self._files.cat_file(f"{self._root}/{_LEASE}"))
            return found if isinstance(found, dict) else None
        except (FileNotFoundError, ValueError):
            return None

    def _write_lease(self) -> None:
        self._beat += 1
        lease = {
            "run": self._identity,
            "beat": self._beat,
            "host": socket.gethostname(),
            "process": os.getpid(),
        }
        self._files.pipe_file(f"{self._root}/{_LEASE}", json.dumps(lease).encode())


def _has_died(lease: dict[str, Any]) -> bool:
    """Whether it is of a process of this machine that is no more."""
    process = lease.get("process")
    if lease.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    return not Path(f"/proc/{process}").exists()


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
