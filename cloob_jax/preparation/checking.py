"""Check SOURCE: what is in it, what is wrong with it, and how fast it can be read."""

import argparse
import math
import os
from pathlib import Path

from cloob_jax.errors import UserError

STAYS = "nothing was changed"


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
    # JAX and Grain take seconds to load, for which no other command has to wait.
    from cloob_jax.preparation import checkup

    if checkup.run(given):
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
