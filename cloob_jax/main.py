"""Pre-trains a contrastive image-text model and evaluates it.

    python -m cloob_jax.main --config=configs/shapes_tiny.py [--workdir=DIR]
                             [--config.batch_size=4096 ...]

Goes on by itself from what is in the run directory (default: runs/NAME_OF_THE_CONFIG).
"""

import difflib
import errno
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from cloob_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, such as configs/shapes_tiny.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; default: runs/NAME_OF_THE_CONFIG."
)
# What the system says when the user's disk or permissions are the reason.
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def main(arguments: list[str]) -> None:
    """Runs what the flags say; see the top of this file."""
    if len(arguments) > 1:
        _fail(f"{arguments[1]}: unexpected; flags start with --, as in --config=FILE")
    # What the libraries tell of their inner workings would bury the progress line.
    logging.set_verbosity(logging.WARNING)
    workdir = Path(_WORKDIR.value or Path("runs") / _config_name(sys.argv))
    try:
        # After the flags, so that --help and a wrong flag answer at once.
        from cloob_jax import train

        train.train_and_evaluate(_CONFIG.value, workdir)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}; what was saved in {workdir} before stays")


def _fail(message: str) -> None:
    print(f"cloob_jax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line and status 2."""
    path = _config_path(arguments)
    if path is None and not {"--help", "-h", "--helpfull"} & set(arguments):
        _fail("--config is missing, for example --config=configs/shapes_tiny.py")
    if path is not None:
        _check_config_file(path)
        # Configs import configs.common: found beside them, whatever the folder is.
        sys.path.insert(0, str(path.resolve().parent.parent))
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        _fail(str(error))
    except (AttributeError, KeyError) as error:
        # ml_collections names the nearest field itself.
        _fail(str(error.args[0]))
    except (ValueError, TypeError, ImportError, SyntaxError) as error:
        _fail(f"{type(error).__name__} in the config or its flags: {error}")
    raise AssertionError


def _config_path(arguments: list[str]) -> Path | None:
    for number, argument in enumerate(arguments):
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            value = value or " ".join(arguments[number + 1 : number + 2])
            return Path(value.partition(":")[0])
    return None


def _config_name(arguments: list[str]) -> str:
    path = _config_path(arguments)
    assert path is not None
    return path.stem


def _check_config_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent if path.parent.is_dir() else Path("configs")
    names = [str(p) for p in sorted(folder.glob("*.py")) if p.stem != "common"]
    near = difflib.get_close_matches(str(path), names, 1, cutoff=0)
    meant = f"; did you mean {near[0]}?" if near else ""
    _fail(f"--config={path}: no such file{meant}")


def run() -> None:
    """The command."""
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
