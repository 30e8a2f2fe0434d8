"""Pre-trains a contrastive image-text model and evaluates it.

    python -m cloob_jax.main --config=configs/shapes_tiny.py [--workdir=DIR]
                             [--config.batch_size=4096 ...]

Goes on by itself from what is in the run directory (default: runs/NAME_OF_THE_CONFIG).
Several processes train together where JAX knows the cluster (Cloud TPU, GKE, SLURM,
Open MPI), or with --coordinator_address, --num_processes and --process_id.
"""

import difflib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cloob_jax.command_line import clear_errors, fail

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, such as configs/shapes_tiny.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; default: runs/NAME_OF_THE_CONFIG."
)
_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where all processes meet."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes train together."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of the processes this is, from 0."
)
_JOIN_SECONDS = flags.DEFINE_float(
    "join_seconds", 120.0, "How long the processes wait for each other.", 0.0
)
_HELP = {"h", "help", "helpfull", "helpshort"}


def main(arguments: list[str]) -> None:
    """Runs what the flags say; see the top of this file."""
    if len(arguments) > 1:
        fail(f"{arguments[1]}: unexpected; flags start with --, as in --config=FILE")
    # What the libraries tell of their inner workings would bury the progress line, and
    # their tracebacks the one line that says it: what fails is raised as well.
    logging.set_verbosity(logging.FATAL)
    workdir = Path(_WORKDIR.value or Path("runs") / _run_name(sys.argv))
    stays = f"what was saved in {workdir} before stays"
    with clear_errors(stays):
        # After the flags, so that --help and a wrong flag answer at once.
        from cloob_jax import distributed

        timeout = _JOIN_SECONDS.value
        place = distributed.find_place(
            _ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value, timeout
        )
        with distributed.joined(place, timeout, stays) as group:
            from cloob_jax import train

            train.train_and_evaluate(_CONFIG.value, workdir, group)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line and status 2."""
    path, argument = _config_file(arguments)
    if path is None and not _HELP & {argument.lstrip("-") for argument in arguments}:
        fail("--config is missing, for example --config=configs/shapes_tiny.py")
    if path is not None:
        _check_config_file(path)
        # Configs import configs.common: found beside them, whatever the folder is.
        sys.path.insert(0, str(path.resolve().parent.parent))
    try:
        if path is not None:
            _check_fields(arguments, path, argument)
        return flags.FLAGS(arguments)
    except flags.Error as error:
        fail(str(error))
    except Exception as error:  # a config is a program, it may raise anything
        fail(f"{type(error).__name__} in the config or its flags: {error}")


def _config_file(arguments: list[str]) -> tuple[Path | None, str | None]:
    """The config's path and what stands after its colon."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            value = value or " ".join(arguments[number + 1 : number + 2])
            path, colon, rest = value.partition(":")
            return Path(path), rest if colon else None
    return None, None


def _run_name(arguments: list[str]) -> str:
    """`cc3m_rn50`, or `cc3m_rn50_clip` for `configs/cc3m_rn50.py:clip`."""
    path, argument = _config_file(arguments)
    assert path is not None
    return path.stem if argument is None else f"{path.stem}_{Path(argument).name}"


def _check_fields(arguments: list[str], path: Path, argument: str | None) -> None:
    """Refuses a flag of a field that the config lacks, naming the nearest."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*([] if argument is None else [argument]))
    fields = set(_fields(config, "config."))
    for flag in arguments:
        name = flag.lstrip("-").partition("=")[0]
        if not flag.startswith("-") or not name.startswith("config.") or name in fields:
            continue
        # The right word at the wrong place is nearer than a wrong one at the right.
        words = {field.rpartition(".")[2] for field in fields}
        near = difflib.get_close_matches(name.rpartition(".")[2], words, 1, cutoff=0.6)
        same = [field for field in fields if field.rpartition(".")[2] in near]
        nearest = difflib.get_close_matches(name, same, 1, cutoff=0)
        hint = f"did you mean {nearest[0]}?" if nearest else "see configs/common.py"
        fail(f"{name}: no such field; {hint}")


def _fields(config: ConfigDict, prefix: str) -> Iterator[str]:
    for name in config:
        yield prefix + name
        if isinstance(config[name], ConfigDict):
            yield from _fields(config[name], f"{prefix}{name}.")


def _check_config_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent if path.parent.is_dir() else Path("configs")
    names = [str(p) for p in sorted(folder.glob("*.py")) if p.stem != "common"]
    near = difflib.get_close_matches(str(path), names, 1, cutoff=0)
    meant = f"; did you mean {near[0]}?" if near else ""
    fail(f"--config={path}: no such file{meant}")


def run() -> None:
    """The command."""
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
