"""Everything that `check` finds out, from files to the rate of the pipeline."""

import argparse
import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax import worker_pool
from cloob_jax.data import sources
from cloob_jax.data.pipeline import LoadPair
from cloob_jax.data.protocol import Source
from cloob_jax.preparation import (
    contents,
    page,
    rates,
    sample,
    shard_files,
    throughput,
)
from cloob_jax.preparation.findings import Fact, Found, Where
from cloob_jax.tokenizer import Tokenizer
from cloob_jax.writers import Progress, write_json

_TARS = 8  # whose headers are read for keys, unless all records are


def run(given: argparse.Namespace) -> bool:
    """Prints facts and findings, and says whether there are findings.

    Args:
      given: the arguments that `checking` adds, `source` and `columns`.

    Raises:
      UserError: SOURCE cannot be opened.
    """
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
    return bool(report["findings"])


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
        num_threads=worker_pool.num_cores(),
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
    load = LoadPair(source, Tokenizer(given.context_length), given.image_size)
    try:
        measured = rates.measure(load, given.seconds)
    except Exception as error:  # what stops a run, and is a finding already
        yield Fact("decoding", f"not measured: {error}", {"error": str(error)})
        return
    cores, target = worker_pool.num_cores(), given.images_per_second
    yield from rates.facts(measured, target, given.image_size, cores)


def _throughput(
    source: Source, given: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    load = LoadPair(source, Tokenizer(given.context_length), given.image_size)
    cores = worker_pool.num_cores()
    try:
        turns = throughput.measure(load, cores, given.seconds, progress)
    except Exception as error:  # as above
        progress.close()
        print(f"\nthe pipeline stops: {error}")
        return {"error": str(error)}
    progress.close()
    print("\n" + throughput.render(turns))
    return throughput.report(turns)
