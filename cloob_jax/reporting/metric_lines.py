"""`metrics.jsonl` as columns, however long, damaged or unfinished it is."""

import array
import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cloob_jax.reporting.axes import LARGEST


@dataclasses.dataclass(frozen=True)
class Series:
    """One metric of one run.

    Attributes:
      steps: ascending.
      examples: seen up to these steps; NaN where the file does not say.
      values: NaN where a value is not finite, or no number.
    """

    steps: Float[np.ndarray, " n"]
    examples: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


def read(path: Path) -> tuple[dict[str, Series], int]:
    """All metrics of a file, and how many of its lines are damaged.

    A last line without its end is not: the run goes on, or was killed. Of two lines
    for a step the later one counts.
    """
    # Lines with the same names are kept as one table: a million lines fit into memory.
    tables: dict[tuple[str, ...], array.array[float]] = {}
    damaged = 0
    with path.open("rb") as file:
        for line in file:
            row = _row(line)
            if row is not None:
                numbers = tables.setdefault(tuple(row), array.array("d"))
                numbers.extend(_numbers(row.values()))
            elif line.endswith(b"\n") and line.strip():
                damaged += 1
    parts: dict[str, list[np.ndarray]] = {}
    for names, numbers in tables.items():
        table = np.frombuffer(numbers).reshape(-1, len(names))
        columns = dict(zip(names, table.T, strict=True))
        steps = columns.pop("step")
        examples = columns.pop("examples_seen", np.full(len(table), np.nan))
        is_sound = np.abs(steps) < LARGEST
        damaged += len(steps) - int(is_sound.sum())
        for name, values in columns.items():
            rows = np.stack([steps, examples, values], axis=1)[is_sound]
            parts.setdefault(name, []).append(rows)
    series = {name: _series(np.concatenate(rows)) for name, rows in parts.items()}
    return {name: some for name, some in series.items() if len(some.steps)}, damaged


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "step" in found else None


def _numbers(values: Iterable[Any]) -> "array.array[float]":
    """NaN stands for what is no number."""
    try:
        return array.array("d", values)
    except (TypeError, OverflowError):
        return array.array("d", map(_number, values))


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and abs(value) < LARGEST
    return float(value) if is_number else math.nan


def _series(rows: Float[np.ndarray, "n 3"]) -> Series:
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    is_last = np.append(rows[1:, 0] > rows[:-1, 0], True)
    rows = rows[is_last]
    steps, examples, values = np.where(np.abs(rows) < LARGEST, rows, np.nan).T
    return Series(steps, examples, values)
