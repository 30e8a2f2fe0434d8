"""Write the records of SOURCE that can be used to ArrayRecord files in DEST."""

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
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.preparation import shard_writing
from cloob_jax.preparation.destination import Destination, Result
from cloob_jax.preparation.shard_writing import Plan

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


def run(given: argparse.Namespace) -> None:
    """Writes what is not there yet, and says what became of all records."""
    _check(given)
    if given.beam:
        _pipeline()
    source = sources.build(given.source, given.columns)
    plan = Plan(
        source.fingerprint,
        len(source),
        given.shard_size,
        given.resize,
        given.quality or _QUALITY,
    )
    began = time.monotonic()
    convert = _by_beam if given.beam else _here
    result, num_done = convert(given, source, plan)
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


def _check(given: argparse.Namespace) -> None:
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
    if "://" in given.dest and not given.beam:
        raise UserError(
            f"DEST={given.dest}: only a local folder can be written without --beam"
        )


def _here(given: argparse.Namespace, source: Source, plan: Plan) -> tuple[Result, int]:
    """What became of all records, and how many were gone through now."""
    folder = Path(given.dest).expanduser()
    with _alone(folder):
        destination = Destination(epath.Path(folder), plan)
        finished = destination.finished()
        num_done = _convert(source, plan, destination, finished, given.processes)
        return destination.conclude(source.faults), num_done


def _by_beam(
    given: argparse.Namespace, source: Source, plan: Plan
) -> tuple[Result, int]:
    """The same, where a runner of Apache Beam shares out the files."""
    # Not a path of this process alone, whose folder others do not share.
    where = given.dest if "://" in given.dest else os.path.abspath(given.dest)
    try:
        destination = Destination(epath.Path(where), plan)
        finished = destination.finished()
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a library of remote storage raises
        raise UserError(f"DEST={where}: {type(error).__name__}: {error}") from None
    missing = [n for n in range(plan.num_shards) if n not in finished]
    try:
        _pipeline().run(
            given.source, given.columns, plan, destination, missing, given.beam_options
        )
    except UserError as error:
        raise UserError(f"{error}; {STAYS}") from None
    return destination.conclude(source.faults), sum(len(plan.shard(n)) for n in missing)


def _pipeline() -> ModuleType:
    try:
        from cloob_jax.preparation import beam_pipeline
    except ImportError as error:
        raise UserError(
            f"--beam needs Apache Beam ({error}): pip install 'cloob_jax[beam]'"
        ) from None
    return beam_pipeline


def _convert(
    source: Source,
    plan: Plan,
    destination: Destination,
    finished: set[int],
    num_processes: int | None,
) -> int:
    before = sum(len(plan.shard(number)) for number in finished)
    missing = [n for n in range(plan.num_shards) if n not in finished]
    done, progress = before, writers.Progress()

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress.count("pairs", done, plan.records)

    work = functools.partial(
        shard_writing.write, source, plan, Path(destination.folder)
    )
    results = worker_pool.results(
        work, missing, num_processes or worker_pool.num_cores(), report
    )
    with contextlib.closing(progress), contextlib.closing(results):
        report(0)
        try:
            for number, tally in results:
                destination.finish(number, tally)
        except worker_pool.Died as error:
            raise UserError(
                f"the process that wrote {plan.name(error.item)} {error.how}, for want "
                f"of memory perhaps: try --processes=1; {STAYS}"
            ) from None
        except UserError as error:
            raise UserError(f"{error}; {STAYS}") from None
    return done - before


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
