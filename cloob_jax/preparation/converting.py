"""Write the pairs of SOURCE that can be used to ArrayRecord files in DEST."""

import argparse

from cloob_jax.data import array_records
from cloob_jax.preparation import conversion

STAYS = conversion.STAYS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own."""
    conversion.add_arguments(parser)


def run(given: argparse.Namespace) -> None:
    """Writes them, and says what became of all records."""
    conversion.convert(given, given.dest, "pairs.array_record", _pack)
    print(f"train on them with --config.data.train={given.dest}")


def _pack(key: str, image: bytes, captions: list[str]) -> bytes:
    return array_records.pack(key, image, "\n".join(captions))
