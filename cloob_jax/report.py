"""One HTML page from run directories: curves, evaluations, spectra, configs, time.

    python -m cloob_jax.report runs/mine
    python -m cloob_jax.report runs/cloob runs/clip --output=cloob_and_clip.html

The page is one file that loads nothing and can be read, sent and kept anywhere. Runs
may go on meanwhile; what is damaged is noted on the page.
"""

import shlex
import sys
from pathlib import Path

from cloob_jax import writers
from cloob_jax.command_line import Parser, clear_errors
from cloob_jax.errors import UserError
from cloob_jax.reporting import document, reading


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say; see the top of this file."""
    given = sys.argv[1:] if arguments is None else arguments
    summary, _ = __doc__.split("\n", 1)
    parser = Parser("python -m cloob_jax.report", description=summary)
    parser.add_argument(
        "runs", metavar="DIR", nargs="+", type=Path, help="a run directory"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the file to write; default: report.html, of one run in its directory, of "
        "several here",
    )
    chosen = parser.parse_args(given)
    with clear_errors("nothing was written"):
        runs = reading.read_all(chosen.runs)
        folder = runs[0].path if len(runs) == 1 else Path()
        output = chosen.output or folder / "report.html"
        if output.is_dir():
            raise UserError(f"--output={output}: a folder; give the name of a file")
        command = shlex.join(["python", "-m", "cloob_jax.report", *given])
        _write(output, document.page(runs, command))
        print(output)


def _write(output: Path, page: str) -> None:
    try:
        writers.write_text(output, page)
    except OSError as error:
        # Not the name of the file beside it, which is put in its place at the end.
        raise UserError(
            f"{output}: {error.strerror}; give --output=FILE that can be written"
        ) from None


if __name__ == "__main__":
    main()
