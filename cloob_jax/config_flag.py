"""The flag --config of the commands: a file, its argument, and --config.FIELD=VALUE.

A mistake in them is one line and status 2.
"""

import difflib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from cloob_jax.command_line import fail

_HELP = {"h", "help", "helpfull", "helpshort"}


def parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line and status 2."""
    path, argument = config_file(arguments)
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


def config_file(arguments: list[str]) -> tuple[Path | None, str | None]:
    """The config's path and what stands after its colon."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            value = value or " ".join(arguments[number + 1 : number + 2])
            path, colon, rest = value.partition(":")
            return Path(path), rest if colon else None
    return None, None


def workdir(arguments: list[str]) -> Path | None:
    """The run directory of a command line: --workdir, or runs/NAME_OF_THE_CONFIG."""
    for number, flag in enumerate(arguments):
        name, _, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and name == "workdir":
            return Path(value or " ".join(arguments[number + 1 : number + 2]))
    path, argument = config_file(arguments)
    if path is None:
        return None
    stem = path.stem if argument is None else f"{path.stem}_{Path(argument).name}"
    return Path("runs") / stem


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
