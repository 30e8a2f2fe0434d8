"""Index the records of SOURCE, so that training starts at once."""

import argparse

from cloob_jax.data import sources

STAYS = "what was indexed before stays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""
    del parser


def run(given: argparse.Namespace) -> None:
    """Makes the index, or finds it, and says what is in it."""
    source = sources.build(given.source, given.columns)
    for fault in source.faults[:10]:
        print(f"left out: {fault.shard} {fault.key}: {fault.reason}")
    if len(source.faults) > 10:
        print(f"... and {len(source.faults) - 10} more")
    print(f"{len(source)} records, fingerprint {source.fingerprint}")
