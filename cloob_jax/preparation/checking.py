"""Check SOURCE: what is in it, what is wrong with it, and how fast it can be read."""

import argparse
import contextlib
import functools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.data import sources
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.preparation import contents, page, sample, shard_files
from cloob_jax.preparation.findings import Fact, Found, Where
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
        found = [*_contents(source, given, progress), *_rates(source, given)]
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


def _contents(source: Source, given: argparse.Namespace, progress: Progress) -> Found:
    total = len(source)
    wanted = total if given.records == "all" else int(given.records)
    num_tars = total if wanted >= total else _TARS
    yield from shard_files.spread(source)
    yield from shard_files.left_out(source.faults)
    count_tars = functools.partial(progress.count, "tars")
    yield from shard_files.keys(source, num_tars, count_tars)
    found = sample.examine(
        source,
        sample.choose(total, wanted),
        image_size=given.image_size,
        num_threads=os.cpu_count() or 1,
        report=functools.partial(progress.count, "records"),
    )
    where, text_of = _readers(source)
    yield from contents.bad_records(found, len(source.faults), where)
    yield from contents.captions(found, given.context_length, where, text_of)
    yield from contents.images(found, given.image_size)
    yield from contents.repeats(found, where)


def _readers(source: Source) -> tuple[Where, Where]:
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


def _rates(source: Source, given: argparse.Namespace) -> Found:
    # JAX and Grain take seconds to load, for which no other command has to wait.
    from cloob_jax.data.pipeline import LoadPair
    from cloob_jax.preparation import rates

    load = LoadPair(source, Tokenizer(given.context_length), given.image_size)
    try:
        measured = rates.measure(load, given.seconds)
    except Exception as error:  # what stops a run, and is a finding already
        yield Fact("decoding", f"not measured: {error}", {"error": str(error)})
        return
    cores, target = rates.num_cores(), given.images_per_second
    yield from rates.facts(measured, target, given.image_size, cores)


def _throughput(
    source: Source, given: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    from cloob_jax.data.pipeline import LoadPair
    from cloob_jax.preparation import rates, throughput

    load = LoadPair(source, Tokenizer(given.context_length), given.image_size)
    cores = rates.num_cores()
    try:
        turns = throughput.measure(load, cores, given.seconds, progress)
    except UserError as error:
        print(f"\nthe pipeline stops: {error}")
        return {"error": str(error)}
    progress.close()
    print("\n" + throughput.render(turns))
    return throughput.report(turns)
