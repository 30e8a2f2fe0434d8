"""The records of a source written to ArrayRecord files, by processes or by Beam."""

import argparse
import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from etils import epath

from cloob_jax import worker_pool, writers
from cloob_jax.data import sources
from cloob_jax.errors import UserError
from cloob_jax.preparation import shard_writing
from cloob_jax.preparation.destination import Destination, Result
from cloob_jax.preparation.shard_writing import Job, Pack, Plan

STAYS = "files that are whole stay, and the same command goes on"
_QUALITY = 95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own; what follows `--` are Beam's."""
    parser.add_argument("dest", metavar="DEST", help="a folder; with --beam also gs://")
    parser.add_argument(
        "--resize", type=int, help="the shorter side of larger pictures, in pixels"
    )
    parser.add_argument(
        "--quality", type=int, help=f"of JPEGs that --resize makes; default {_QUALITY}"
    )
    parser.add_argument(
        "--shard_size",
        type=int,
        default=10_000,
        help="records of SOURCE for each file; default 10000",
    )
    parser.add_argument("--processes", type=int, help="default: as many as cores")
    parser.add_argument(
        "--beam",
        action="store_true",
        help="run as an Apache Beam pipeline, whose options follow after --",
    )


def convert(given: argparse.Namespace, dest: str, files: str, pack: Pack) -> Result:
    """Writes what is not there yet, and says what became of all records.

    Args:
      given: what `add_arguments` adds, and `source`, `columns` and `beam_options`.
      dest: the folder.
      files: what names begin with.
      pack: makes a record of key, image and captions.

    Raises:
      UserError: a mistake in what is given, a full disk, or no record can be used.
    """
    _check(given, dest)
    if given.beam:
        _pipeline()
    source = sources.build(given.source, given.columns)
    plan = Plan(
        files,
        source.fingerprint,
        len(source),
        given.shard_size,
        given.resize,
        given.quality or _QUALITY,
    )
    began = time.monotonic()
    job = Job(source, plan, pack)
    write = _by_beam if given.beam else _here
    result, num_done = write(job, dest, given)
    rate = num_done / (time.monotonic() - began)
    print(
        f"{result.written:,} of {len(source):,} records in {plan.num_shards} files, "
        f"pictures of {result.bytes_before / 1e6:,.1f} MB in "
        f"{result.bytes_after / 1e6:,.1f} MB"
        + (f", {rate:,.0f} pairs/s" if num_done else ", as they were there already")
    )
    if result.dropped:
        kinds = ", ".join(f"{n} {kind}" for kind, n in result.dropped.most_common())
        print(f"{result.dropped.total():,} left out: {kinds}; see {result.path}")
    if not result.written:
        raise UserError(
            f"SOURCE={given.source}: no record can be used; {result.path} says why"
        )
    return result


def _check(given: argparse.Namespace, dest: str) -> None:
    for name, least, most in (
        ("resize", 1, 2**16 - 1),
        ("quality", 1, 100),
        ("shard_size", 1, 2**31),
        ("processes", 1, 1024),
    ):
        value = getattr(given, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"--{name}={value}: expected {least} to {most}")
    if given.quality and not given.resize:
        raise UserError(
            f"--quality={given.quality}: only pictures that --resize makes smaller "
            "are encoded anew; give it too"
        )
    if given.beam and given.processes:
        raise UserError(
            "--processes: with --beam the runner decides, by its own options after --"
        )
    if "://" in dest and not given.beam:
        raise UserError(
            f"DEST={dest}: only a local folder can be written without --beam"
        )


def _here(job: Job, dest: str, given: argparse.Namespace) -> tuple[Result, int]:
    """What became of all records, and how many were gone through now."""
    folder = Path(dest).expanduser()
    with _alone(folder):
        destination = Destination(epath.Path(folder), job.plan)
        missing, done = _missing(job.plan, destination)
        num_processes = given.processes or worker_pool.num_cores()
        work = functools.partial(shard_writing.write, job, folder)
        progress = _Progress(done, job.plan.records)
        results = worker_pool.results(work, missing, num_processes, progress.add)
        with contextlib.closing(progress), contextlib.closing(results):
            try:
                for number, tally in results:
                    destination.finish(number, tally)
            except worker_pool.Died as error:
                raise UserError(
                    f"the process that wrote {job.plan.name(error.item)} {error.how}, "
                    f"for want of memory perhaps: try --processes=1; {STAYS}"
                ) from None
            except UserError as error:
                raise UserError(f"{error}; {STAYS}") from None
        return destination.conclude(job.source.faults), job.plan.records - done


def _by_beam(job: Job, dest: str, given: argparse.Namespace) -> tuple[Result, int]:
    """The same, where a runner of Apache Beam shares out the files."""
    # Other processes do not share this one's folder.
    where = dest if "://" in dest else os.path.abspath(os.path.expanduser(dest))
    try:
        destination = Destination(epath.Path(where), job.plan)
        missing, done = _missing(job.plan, destination)
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a library of remote storage raises
        raise UserError(f"DEST={where}: {type(error).__name__}: {error}") from None
    try:
        _pipeline().run(
            job, given.source, given.columns, destination, missing, given.beam_options
        )
    except UserError as error:
        raise UserError(f"{error}; {STAYS}") from None
    return destination.conclude(job.source.faults), job.plan.records - done


def _pipeline() -> ModuleType:
    try:
        from cloob_jax.preparation import beam_pipeline
    except ImportError as error:
        raise UserError(
            f"--beam needs Apache Beam ({error}): pip install 'cloob_jax[beam]'"
        ) from None
    return beam_pipeline


def _missing(plan: Plan, destination: Destination) -> tuple[list[int], int]:
    """The files that are not whole, and how many records the others are of."""
    finished = destination.finished()
    missing = [number for number in range(plan.num_shards) if number not in finished]
    return missing, sum(len(plan.shard(number)) for number in finished)


class _Progress:
    def __init__(self, done: int, total: int):
        self._progress, self._done, self._total = writers.Progress(), done, total
        self.add(0)

    def add(self, count: int) -> None:
        self._done += count
        self._progress.count("pairs", self._done, self._total)

    def close(self) -> None:
        self._progress.close()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Makes the folder, and lets one process at a time write there.

    The system frees the lock of a process that has died.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"DEST={folder} is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"DEST={folder}: another process writes there; wait for it"
            ) from None
        except OSError:  # some network disks know no locks
            pass
        yield
    finally:
        os.close(descriptor)
