"""Pre-trains a contrastive image-text model and evaluates it.

    python -m cloob_jax.main --config=configs/shapes_tiny.py [--workdir=DIR]
                             [--config.batch_size=4096 ...]

Goes on by itself from what is in the run directory (default: runs/NAME_OF_THE_CONFIG).
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from cloob_jax import config_flag
from cloob_jax.command_line import clear_errors, fail

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, such as configs/shapes_tiny.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; default: runs/NAME_OF_THE_CONFIG."
)


def main(arguments: list[str]) -> None:
    """Runs what the flags say; see the top of this file."""
    if len(arguments) > 1:
        fail(f"{arguments[1]}: unexpected; flags start with --, as in --config=FILE")
    # What the libraries tell of their inner workings would bury the progress line, and
    # their tracebacks the one line that says it: what fails is raised as well.
    logging.set_verbosity(logging.FATAL)
    workdir = Path(_WORKDIR.value or Path("runs") / _run_name(sys.argv))
    with clear_errors(f"what was saved in {workdir} before stays"):
        # After the flags, so that --help and a wrong flag answer at once.
        from cloob_jax import train

        train.train_and_evaluate(_CONFIG.value, workdir)


def _run_name(arguments: list[str]) -> str:
    """`cc3m_rn50`, or `cc3m_rn50_clip` for `configs/cc3m_rn50.py:clip`."""
    path, argument = config_flag.config_file(arguments)
    assert path is not None
    return path.stem if argument is None else f"{path.stem}_{Path(argument).name}"


def run() -> None:
    """The command."""
    app.run(main, flags_parser=config_flag.parse)


if __name__ == "__main__":
    run()
