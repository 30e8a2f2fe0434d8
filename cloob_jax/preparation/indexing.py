"""Index the records of SOURCE, so that training starts at once."""

import argparse
import contextlib
import functools

from cloob_jax import writers
from cloob_jax.data import sources
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError

STAYS = "what was indexed before stays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where else to keep the index."""
    parser.add_argument(
        "--beside",
        metavar="FOLDER",
        help="the shards' folder (a path or a URL), to keep the index of tars there "
        "too, for other machines",
    )


def run(given: argparse.Namespace) -> None:
    """Makes the index, or finds it, and says what is in it."""
    with contextlib.closing(writers.Progress()) as progress:
        report = functools.partial(progress.count, "shards")
        source = sources.build(given.source, given.columns, report=report)
    for fault in source.faults[:10]:
        print(f"left out: {fault.shard} {fault.key}: {fault.reason}")
    if len(source.faults) > 10:
        print(f"... and {len(source.faults) - 10} more")
    print(f"{len(source)} records, fingerprint {source.fingerprint}")
    if given.beside:
        if not isinstance(source, TarRecords):
            raise UserError(f"--beside={given.beside}: only tars have such an index")
        print(f"kept as {given.beside}/{source.keep_index(given.beside)}")
