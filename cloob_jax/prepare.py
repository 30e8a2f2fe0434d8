"""Image-caption pairs made ready for training.

    python -m cloob_jax.prepare index '/data/cc3m/{00000..00331}.tar'
    python -m cloob_jax.prepare arrayrecord /data/cc3m /data/cc3m_256 --resize=256

SOURCE is what `config.data.train` takes: see README, Your data.
"""

import signal
import sys
from collections.abc import Callable
from typing import Any

from cloob_jax.command_line import Parser, clear_errors
from cloob_jax.errors import UserError


def _rooms() -> dict[str, Any]:
    """What adds its arguments to a parser, and runs what they say, of each command."""
    # Not at the top: worker processes import this file too, and need few of them.
    from cloob_jax.preparation import checking, converting, indexing, tfds_writing

    return {
        "index": indexing,
        "check": checking,
        "arrayrecord": converting,
        "tfds": tfds_writing,
    }


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say; see the top of this file."""
    parser = Parser("python -m cloob_jax.prepare", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, room in _rooms().items():
        first, *_ = room.__doc__.splitlines()
        command = commands.add_parser(name, help=first, description=first)
        command.add_argument("source", metavar="SOURCE", help="see README, Your data")
        command.add_argument("--columns", help="IMAGE,CAPTION: names of columns")
        room.add_arguments(command)
        command.set_defaults(run=room.run, stays=room.STAYS)
    own, beam_options = _divide(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(own)
    given.beam_options = beam_options
    if beam_options and not getattr(given, "beam", False):
        parser.error("options after -- are for --beam")
    # As control-C, so that nothing half-written stays behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with clear_errors(given.stays):
            _run(given.run, given)
    finally:
        signal.signal(signal.SIGTERM, before)


def _divide(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what after it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def _run(run: Callable[[Any], None], given: Any) -> None:
    try:
        run(given)
    except UserError as error:
        # Sources speak of the config that usually names them.
        text = str(error).replace("--config.data.train", "SOURCE")
        text = text.replace("config.data.train", "SOURCE")
        raise UserError(text.replace("config.data.", "--")) from None


if __name__ == "__main__":
    main()
