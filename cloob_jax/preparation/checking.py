"""Check SOURCE: what is in it, what is wrong with it, and how fast it can be read."""

import argparse
import contextlib
import functools
import math
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.data import sources
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.preparation import findings, page, rates, sample, shard_files
from cloob_jax.preparation.findings import Found
from cloob_jax.tokenizer import Tokenizer
from cloob_jax.writers import Progress, write_json

STAYS = "nothing was changed"
_TARS = 16  # whose headers are read for keys, unless all records are


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is looked at, and for which training."""
    parser.add_argument("--records", default="4096", help="how many, or all (4096)")
    for name, default, text in (
        ("image_size", 224, "of the training crop, in pixels"),
        ("context_length", 77, "of texts, in tokens"),
        ("images_per_second", 3000, "to be fed"),
    ):
        help_text = f"{text} ({default})"
        parser.add_argument(f"--{name}", type=int, default=default, help=help_text)
    parser.add_argument(
        "--throughput", action="store_true", help="run the training pipeline, too"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of each measurement (2)"
    )
    parser.add_argument("--json", metavar="FILE", help="to write all numbers to")


def run(given: argparse.Namespace) -> None:
    """Prints facts and findings; with findings, the exit status is 1."""
    _refuse_mistakes(given)
    source = sources.build(given.source, given.columns)
    with contextlib.closing(Progress()) as progress:
        found = list(_look(source, given, progress))
        progress.close()
        title = f"{given.source}: {len(source):,} records"
        print(page.render(title, found), flush=True)
        report = {"source": given.source, "records": len(source)} | page.report(found)
        if given.throughput:
            report["throughput"] = _throughput(source, given, progress)
    if given.json:
        write_json(Path(given.json), report)
    if report["findings"]:
        raise SystemExit(1)


def _refuse_mistakes(given: argparse.Namespace) -> None:
    """Before minutes of work.

    Raises:
      UserError: an argument is out of its bounds, or the file cannot be written.
    """
    for name, least in (
        ("image_size", 1),
        ("context_length", 2),
        ("images_per_second", 1),
    ):
        value = getattr(given, name)
        if value < least:
            raise UserError(f"--{name}={value}: expected at least {least}")
    if not 0 < given.seconds < math.inf:
        raise UserError(f"--seconds={given.seconds:g}: expected more than 0")
    is_number = given.records.isdecimal() and int(given.records) > 0
    if given.records != "all" and not is_number:
        raise UserError(f"--records={given.records}: expected 1 or more, or all")
    if given.json:
        file = Path(given.json)
        if file.is_dir() or not os.access(file.resolve().parent, os.W_OK):
            raise UserError(
                f"--json={file}: cannot be written; give a file in an existing folder"
            )


def _look(source: Source, given: argparse.Namespace, progress: Progress) -> Found:
    """All there is to say, but for what the pipeline feeds."""
    total, cores = len(source), rates.num_cores()
    wanted = total if given.records == "all" else int(given.records)
    num_tars = total if wanted >= total else _TARS
    yield from shard_files.spread(source)
    yield from shard_files.left_out(source.faults)
    yield from shard_files.keys(source, num_tars)
    found = sample.examine(
        source,
        sample.choose(total, wanted),
        image_size=given.image_size,
        num_threads=cores,
        report=functools.partial(progress.count, "records"),
    )
    where, text_of = _readers(source)
    convert = (
        f"python -m cloob_jax.prepare arrayrecord {shlex.quote(given.source)} DEST"
    )
    yield from findings.bad_records(found, len(source.faults), where, convert)
    yield from findings.captions(found, given.context_length, where, text_of)
    yield from findings.images(found, given.image_size, convert)
    yield from findings.repeats(found, where)
    progress.show("measuring rates", 0)
    measured = rates.measure(
        source, given.image_size, given.context_length, given.seconds
    )
    yield from rates.facts(measured, given.images_per_second, given.image_size, cores)


def _readers(source: Source) -> tuple[findings.Where, findings.Where]:
    """What names a record, and what gives the caption that is drawn from it."""

    def where(record: int) -> str:
        try:
            return " ".join(source.name(record))
        except Exception:  # where nothing can be read, not even a name
            return f"record {record}"

    def text_of(record: int) -> str:
        _, text = source[record]
        return sample.drawn_caption(text, np.random.default_rng(record))[0]

    return where, text_of


def _throughput(
    source: Source, given: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    # JAX and Grain take seconds to load, which nothing else here needs.
    from cloob_jax.data.pipeline import LoadPair
    from cloob_jax.preparation import throughput

    try:
        turns = throughput.measure(
            LoadPair(source, Tokenizer(given.context_length), given.image_size),
            num_cores=rates.num_cores(),
            seconds=given.seconds,
            progress=progress,
        )
    except UserError as error:
        print(f"\nthe training pipeline stops: {error}")
        return {"stopped": str(error)}
    progress.close()
    print("\n" + throughput.render(turns))
    return throughput.report(turns)
