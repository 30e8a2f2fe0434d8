"""What a run leaves for people: metrics, log lines, the progress line, tables."""

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.command_line import show


class MetricsWriter:
    """`metrics.jsonl` (one object a line) and TensorBoard events, side by side."""

    def __init__(self, workdir: Path, step: int):
        """Goes on after `step`: later lines, of a run that was killed, are dropped.

        Attributes:
          evaluated: steps whose evaluation is written.
        """
        # Later than this file: it imports torch, for seconds, where that is installed.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        path = workdir / "metrics.jsonl"
        lines = [line for line in read_json_lines(path) if "step" in line]
        kept = [line for line in lines if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._kept = kept
        self.evaluated = {
            line["step"] for line in kept if any(n.startswith("val/") for n in line)
        }
        self._file = path.open("a", encoding="utf-8")
        events = workdir / "tensorboard" / "events"
        events.parent.mkdir(exist_ok=True)
        # Not tensorboardX's SummaryWriter: its thread keeps events for minutes, and
        # where the disk is full it dies, after which adding an event waits for ever.
        self._events = EventsWriter(str(events))
        if lines:
            # Hides later events of the run that was killed.
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=step + 1, session_log=start))

    def write(self, step: int, examples_seen: int, values: Mapping[str, float]) -> None:
        """Appends one line and its events; on disk when it returns."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        line = {"step": step, "examples_seen": examples_seen, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
            self._events.write_event(event)
        self._events.flush()
        if any(name.startswith("val/") for name in values):
            self.evaluated.add(step)

    def column(self, name: str | None) -> dict[int, float]:
        """Step -> value of a metric, as far as it was written before this run."""
        return {line["step"]: line[name] for line in self._kept if name in line}

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


class Log:
    """Lines on standard error and in `log.txt`, and a progress line on a terminal."""

    def __init__(self, workdir: Path | None):
        """Appends to `workdir/log.txt`; None: says nothing anywhere."""
        path = Path(os.devnull) if workdir is None else workdir / "log.txt"
        self._file = path.open("a", encoding="utf-8")
        self._stream = sys.stderr if workdir is not None else self._file
        self._live = self._stream.isatty()

    def line(self, text: str) -> None:
        """A line that stays."""
        self._keep(text)
        self._show(text)

    def progress(self, text: str, keep: bool) -> None:
        """The state of affairs: rewritten in place on a terminal.

        Args:
          text: one line.
          keep: whether it goes into the log, and onto a stream that is no terminal.
        """
        if keep:
            self._keep(text)
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            show(f"\r\x1b[K{text[:width]}", self._stream)
        elif keep:
            self._show(text)

    def close(self) -> None:
        """Leaves the cursor on a line of its own."""
        if self._live:
            show("\r\x1b[K", self._stream)
        self._file.close()

    def _keep(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ")
        self._file.write("".join(f"{stamp}{row}\n" for row in text.splitlines()))
        self._file.flush()

    def _show(self, text: str) -> None:
        show(("\r\x1b[K" if self._live else "") + text + "\n", self._stream)


def warn(text: str) -> None:
    """A line on standard error, from any thread."""
    show(f"cloob_jax: {text}\n")


class Progress:
    """How long something takes, on standard error; one line on a terminal."""

    def __init__(self) -> None:
        """Shows nothing yet."""
        self._stream = sys.stderr
        self._live = self._stream.isatty()
        self._minutes: dict[str, int] = {}
        self._began: dict[str, tuple[float, int]] = {}

    def show(self, what: str, seconds: float) -> None:
        """That `what` goes on since `seconds`; without a terminal, every minute."""
        self._state(what, f"{what}: {duration(seconds)}", seconds)

    def count(self, what: str, done: int, total: int) -> None:
        """That `done` of `total` are done, how many a second, and the time left.

        A bar on a terminal, elsewhere a line every minute and at the end.
        """
        now = time.monotonic()
        began, before = self._began.setdefault(what, (now, done))
        self._minutes.setdefault(what, 0)
        seconds, text = now - began, count(what, done, total)
        if done > before and seconds:
            rate = (done - before) / seconds
            text += f", {rate:,.0f}/s, {duration((total - done) / rate)} left"
        if done == total and not self._live:
            self.line(text.removesuffix(", 0s left"))
        else:
            self._state(what, text, seconds)

    def _state(self, what: str, text: str, seconds: float) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            show(f"\r\x1b[K{text[:width]}", self._stream)
        elif seconds >= 60 * (self._minutes.get(what, -1) + 1):
            self._minutes[what] = int(seconds // 60)
            show(text + "\n", self._stream)

    def line(self, text: str) -> None:
        """A line that stays."""
        self.close()
        show(text + "\n", self._stream)

    def close(self) -> None:
        """Leaves the cursor at the beginning of an empty line."""
        if self._live:
            show("\r\x1b[K", self._stream)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table: the first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *map(line, rows)])


def count(what: str, done: int, total: int) -> str:
    """How far something is, as a bar: `cifar10: [#####.....] 5120/10000`."""
    filled = 20 * done // total
    return f"{what}: [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}"


def duration(seconds: float | None) -> str:
    """As a person says it: `45s`, `3m20s`, `5h07m`, `2d03h`; `?` if nobody knows."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that no reader sees half of it."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes an `.npz` so that no reader sees half of it."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    _write(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """Writes a file so that no reader sees half of it."""
    _write(path, text.encode("utf-8"))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, one a line; a line that a kill cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
