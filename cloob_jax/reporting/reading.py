"""A run directory as it is: what cannot be read is noted, and stops nothing."""

import dataclasses
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cloob_jax import sessions, writers
from cloob_jax.errors import UserError
from cloob_jax.reporting import metric_lines
from cloob_jax.reporting.axes import LARGEST
from cloob_jax.sessions import Session

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PICTURE = 5_000_000  # bytes
_LOG_LINES, _LOG_BYTES = 40, 64_000
_END_OF_TIME = 1e11  # seconds since 1970: what calendars still know
_SPECTRUM = "_spectrum"
# What NumPy raises where a file of arrays is damaged, an impossible size among it.
_NO_ARRAYS: tuple[type[Exception], ...] = (
    *(OSError, ValueError, TypeError, EOFError, KeyError, MemoryError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """One JSON of an evaluation.

    Attributes:
      step: of the run.
      dataset: its name.
      task: such as `zeroshot_classification`.
      figures: name -> value, all finite.
      path: of the file.
    """

    step: int
    dataset: str
    task: str
    figures: dict[str, float]
    path: Path


@dataclasses.dataclass
class Run:
    """What a run directory holds.

    Attributes:
      name: distinguishes it from the others.
      path: where it lies.
      notes: what could not be read.
      config: its fields by their whole names.
      series: metric -> values.
      results: of evaluations, by step.
      spectra: (data set, encoder) -> (step, eigenvalues), the latest ones.
      picture: `samples.png`, if there is one.
      sessions: of its processes.
      bad_steps: as `bad_steps.jsonl` has them.
      log: the last lines of it.
    """

    name: str
    path: Path
    notes: list[str] = dataclasses.field(default_factory=list)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    series: dict[str, metric_lines.Series] = dataclasses.field(default_factory=dict)
    results: list[Result] = dataclasses.field(default_factory=list)
    spectra: dict[tuple[str, str], tuple[int, Float[np.ndarray, " d"]]] = (
        dataclasses.field(default_factory=dict)
    )
    picture: bytes | None = None
    sessions: list[Session] = dataclasses.field(default_factory=list)
    bad_steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: list[str] = dataclasses.field(default_factory=list)


def read_all(paths: Sequence[Path]) -> list[Run]:
    """The runs, each once.

    Raises:
      UserError: one of the paths is no run directory.
    """
    for path in paths:
        _check(path)
    places = list(dict.fromkeys(path.resolve() for path in paths))
    return [
        _read(name, path) for name, path in zip(_names(places), places, strict=True)
    ]


def _check(path: Path) -> None:
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such folder"
        raise UserError(f"{path}: {what}; give the --workdir of a run")
    if _is_run(path):
        return
    inside = sorted(child for child in path.iterdir() if _is_run(child))
    better = (
        f"give the runs in it, such as {inside[0]}" if inside else "give a --workdir"
    )
    raise UserError(
        f"{path}: not a run directory, it holds neither metrics.jsonl nor "
        f"config.json; {better}"
    )


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("metrics.jsonl", "config.json"))


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(paths):
            break
    return names


def _read(name: str, path: Path) -> Run:
    run = Run(name, path)
    config = _json(run, path / "config.json")
    run.config = flat(config) if isinstance(config, dict) else {}
    try:
        run.series, damaged = metric_lines.read(path / "metrics.jsonl")
        if damaged:
            run.notes.append(f"metrics.jsonl: lines that cannot be read: {damaged}")
    except OSError as error:
        run.notes.append(f"metrics.jsonl: {error.strerror}")
    run.results = _results(run)
    for result in reversed(run.results):
        if result.task == "spectrum":
            _add_spectra(run, result)
    run.picture = _picture(run)
    run.sessions = _sessions(run)
    run.bad_steps = _bad_steps(run)
    run.log = _last_lines(run)
    return run


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a config by their whole names, `optim.b1`."""
    fields: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def _json(run: Run, path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        run.notes.append(f"{path.relative_to(run.path)}: {reason}")
        return None


def _results(run: Run) -> list[Result]:
    found = []
    for path in sorted((run.path / "eval").glob("*/*.json")):
        content = _json(run, path) if path.parent.name.isdecimal() else None
        if content is None:
            continue
        figures = content.get("metrics") if isinstance(content, dict) else None
        if not isinstance(figures, dict):
            run.notes.append(
                f"{path.relative_to(run.path)}: no result of an evaluation"
            )
            continue
        finite = {
            name: float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and -LARGEST < value < LARGEST
        }
        dataset, task = str(content.get("dataset")), str(content.get("task"))
        found.append(Result(int(path.parent.name), dataset, task, finite, path))
    return sorted(found, key=lambda result: result.step)


def _add_spectra(run: Run, result: Result) -> None:
    """Adds the arrays beside a result, where no later ones are there."""
    path = result.path.with_suffix(".npz")
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.endswith(_SPECTRUM)]
            found = {name: arrays[name].astype(np.float64) for name in names}
    except FileNotFoundError:
        return
    except _NO_ARRAYS:
        run.notes.append(f"{path.relative_to(run.path)}: damaged")
        return
    for name, values in found.items():
        if values.ndim == 1 and np.isfinite(values).all() and (values > 0).any():
            key = result.dataset, name.removesuffix(_SPECTRUM)
            run.spectra.setdefault(key, (result.step, values))


def _picture(run: Run) -> bytes | None:
    path = run.path / "samples.png"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        run.notes.append(f"samples.png: {error.strerror}")
        return None
    if not content.startswith(_PNG) or len(content) < 24:
        run.notes.append("samples.png: not a PNG picture")
    elif len(content) > _LARGEST_PICTURE:
        run.notes.append(f"samples.png: {len(content)} bytes, too large for a page")
    else:
        return content
    return None


def picture_size(picture: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG."""
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def _sessions(run: Run) -> list[Session]:
    if not (run.path / "sessions.json").exists():
        return []
    found = sessions.read(run.path)
    if found and all(map(_is_sound, found)):
        return found
    run.notes.append("sessions.json: damaged")
    return []


def _is_sound(session: Session) -> bool:
    times = session.began, session.seen, session.first_step, session.last_step
    if not isinstance(session.seconds, dict):
        return False
    return all(
        isinstance(value, int | float) and abs(value) < _END_OF_TIME
        for value in (*times, *session.seconds.values())
    )


def _bad_steps(run: Run) -> list[dict[str, Any]]:
    try:
        return writers.read_json_lines(run.path / "bad_steps.jsonl")
    except (OSError, RecursionError):
        run.notes.append("bad_steps.jsonl: cannot be read")
        return []


def _last_lines(run: Run) -> list[str]:
    """The end of `log.txt`."""
    try:
        with (run.path / "log.txt").open("rb") as file:
            start = max(file.seek(0, os.SEEK_END) - _LOG_BYTES, 0)
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        run.notes.append(f"log.txt: {error.strerror}")
        return []
    lines = content.decode("utf-8", errors="replace").split("\n")
    # Only a piece of a line stands at the beginning, unless it is that of the file.
    return [line for line in lines[1 if start else 0 :] if line.strip()][-_LOG_LINES:]
