"""Says which process is slow and where, and ends a run that has stopped to move."""

import faulthandler
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cloob_jax.process_group import ProcessGroup
from cloob_jax.pulse import Pulse
from cloob_jax.writers import duration

_SLOW = 10.0  # times the usual, and a step is told of
_LEAST_SECONDS = 5.0  # below which nobody cares
_LOOK_SECONDS = 0.5
# Times the limit for what is no step: compiling, indexing, restoring, evaluating.
_PATIENCE = 6.0
_LEADER_FIRST_SECONDS = 10.0  # since process 0 knows what the others do
_MOST_NAMES = 20


class Watchdog:
    """A thread that looks at the pulse of this process while entered.

    Attributes:
      names: of records by their numbers, for the report.
    """

    def __init__(
        self,
        pulse: Pulse,
        group: ProcessGroup,
        say: Callable[[str], None],
        hang_seconds: int,
        directory: Path,
    ):
        """Prepares to watch.

        Args:
          pulse: of this process.
          group: the processes of the run.
          say: tells a person; heard in process 0.
          hang_seconds: that a step may take, and six times that anything else, before
            all processes are ended.
          directory: where the stacks of the threads are written.
        """
        self._pulse, self._group, self._say = pulse, group, say
        self._limit = hang_seconds
        self._path = directory / f"process_{group.index}.txt"
        self.names: Callable[[np.ndarray], Sequence[str]] = lambda records: []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        self._group.tell_of(self._pulse.__str__)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        told = -1
        while not self._ended.wait(_LOOK_SECONDS):
            pulse = self._pulse
            usual, seconds, step = (
                pulse.usual_seconds(),
                pulse.step_seconds(),
                pulse.step,
            )
            if usual and seconds > max(_SLOW * usual, _LEAST_SECONDS) and step != told:
                told = step
                self._dump()
                self._say(
                    f"step {step} has taken {duration(seconds)}, {usual:.2g}s is "
                    f"usual: {self._doings()}; stacks in {self._path.parent}"
                )
            limit = float(self._limit)
            if pulse.phase not in ("step", "data", "exchange"):
                limit *= _PATIENCE
            if not self._group.is_leader:
                limit += _LEADER_FIRST_SECONDS
            if pulse.silent_seconds() > limit:
                self._dump()
                self._group.abandon(
                    f"nothing has moved for {duration(limit)} (config.hang_seconds="
                    f"{self._limit:g}): {self._doings()}; stacks in {self._path.parent}"
                )

    def _doings(self) -> str:
        """What the processes do, those that do the same together."""
        by_text: dict[str, list[str]] = {}
        for name, text in self._group.doings().items():
            by_text.setdefault(text, []).append(name)
        # Those who wait for others are not to blame, and most do.
        rows = sorted(by_text.items(), key=lambda row: len(row[1]))
        return ", ".join(
            f"{', '.join(names[:5])}"
            f"{f' and {len(names) - 5} more' if len(names) > 5 else ''} {text}"
            for text, names in rows
        )

    def _dump(self) -> None:
        """Appends what is being done, with the stacks of all threads."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            names = list(self.names(self._pulse.records[:_MOST_NAMES]))
            with self._path.open("a", encoding="utf-8") as file:
                stamp = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"{stamp} {self._pulse}; records {', '.join(names)}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
                file.write("\n")
        except OSError as error:
            self._say(f"{self._path}: no stacks could be written: {error.strerror}")
