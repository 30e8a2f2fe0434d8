"""The embedded data set: drawn scenes of shapes with captions, and zero-shot tasks.

`generate` writes it once, in the layouts of anybody's data: training pairs in
img2dataset's (`train/00000.tar` with `000000000.jpg`, `.txt`, `.json`), the tasks
`shape`, `colour`, `texture` and `held_out` in CLIP_benchmark's WebDataset layout
(`shape/test/0.tar` with `s0000000.jpg`, `.cls`, class names and templates beside).
Eight of the 64 pairs of colour and shape are in no training scene, and only they are
in `held_out`, whose class names are all 64. `captions`, for retrieval, holds pairs like
the training ones (`captions/test/0.tar` with `s0000000.jpg`, `.txt`).
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from cloob_jax import worker_pool
from cloob_jax.data.shapes.shards import (
    Settings,
    Shard,
    plan_shards,
    write_shard,
    write_task_descriptions,
)
from cloob_jax.errors import UserError

_SETTINGS_FILE = "shapes.json"


def generate(
    directory: Path,
    *,
    num_train: int,
    num_test: int,
    image_size: int = 64,
    seed: int = 0,
    num_processes: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Write the shapes data set to `directory`, or find it there already.

    The folder appears whole or not at all. Its bytes depend on `num_train` (training
    pairs), `num_test` (images a task), `image_size` (pixels a side) and `seed`, not on
    `num_processes` (as many as there are cores by default). `report(done, total)` is
    called with numbers of scenes. Several processes may call at once: one draws, the
    others wait for it.

    Raises UserError for settings out of range, for a `directory` that holds something
    else, and where the file system refuses (a full disk).
    """
    settings = Settings(num_train, num_test, image_size, seed)
    _check(settings, num_processes)
    directory = Path(os.path.abspath(directory))
    try:
        if _is_there(directory, settings):
            return
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _only_process(directory):
            if not _is_there(directory, settings):
                _write_whole(directory, settings, num_processes, report)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write the shapes data set to {directory}: {reason}; free some "
            "space or choose a directory elsewhere"
        ) from error
    except worker_pool.Died as error:
        raise UserError(
            "a process that drew the shapes data set was killed, perhaps for want of "
            "memory; start again when there is more"
        ) from error


def _check(settings: Settings, num_processes: int | None) -> None:
    for name, value, least in (
        ("num_train", settings.num_train, 1),
        ("num_test", settings.num_test, 1),
        ("image_size", settings.image_size, 32),
        ("num_processes", 1 if num_processes is None else num_processes, 1),
    ):
        if value < least:
            raise UserError(f"shapes: {name} is {value}, but must be at least {least}")


def _is_there(directory: Path, settings: Settings) -> bool:
    """Whether the data set stands already; UserError if something else does."""
    path = directory / _SETTINGS_FILE
    if not path.exists():
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(
                f"{directory} exists but holds no shapes data set ({_SETTINGS_FILE} is "
                "missing); remove it or choose another directory"
            )
        return False
    try:
        found = dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not readable as JSON; remove {directory} to have it made anew"
        ) from error
    wanted = dataclasses.asdict(settings)
    if found != wanted:
        differences = ", ".join(
            f"{name}={found.get(name)} instead of {value}"
            for name, value in wanted.items()
            if found.get(name) != value
        )
        raise UserError(
            f"{directory} holds a shapes data set made with other settings "
            f"({differences}); remove it or choose another directory"
        )
    return True


@contextlib.contextmanager
def _only_process(directory: Path) -> Iterator[None]:
    """Let one process at a time make the directory; the system frees a dead one's lock.

    The lock's file goes when the data set stands: whoever waited finds that complete.
    """
    path = directory.with_name(f".{directory.name}.lock")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)


def _write_whole(
    directory: Path,
    settings: Settings,
    num_processes: int | None,
    report: Callable[[int, int], None] | None,
) -> None:
    """Make the data set in a folder beside, and rename that when it is complete."""
    prefix = f".{directory.name}.making-"
    for leftover in directory.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    making = directory.with_name(f"{prefix}{os.getpid()}")
    try:
        (making / "train").mkdir(parents=True)
        write_task_descriptions(making)
        shards = plan_shards(settings)
        total = sum(len(shard.scenes) for shard in shards)
        done = 0
        work = functools.partial(_write_shard, making, settings)
        with contextlib.closing(
            worker_pool.results(work, shards, num_processes or worker_pool.num_cores())
        ) as results:
            for _, num_scenes in results:
                done += num_scenes
                if report is not None:
                    report(done, total)
        text = json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
        (making / _SETTINGS_FILE).write_text(text)
        making.rename(directory)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write_shard(
    directory: Path, settings: Settings, shard: Shard, report: Callable
) -> int:
    del report
    return write_shard(directory, settings, shard)
