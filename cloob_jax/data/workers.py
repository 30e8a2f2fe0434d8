"""Worker processes: none outlives the trainer, and one that dies or hangs is missed.

Each has a row in memory that it shares with the trainer, and counts in it the examples
that it has made. The trainer takes batches from the workers in turn, and so knows for
whom it waits: who makes nothing for long meanwhile is stuck.
"""

import contextlib
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import grain
import numpy as np

_PROCESS, _MADE = 0, 1  # columns of a row: the process's number, and its examples
_row = np.array([os.getpid(), 0])  # of this process
_TICK_SECONDS = 1.0
_START_SECONDS = 300  # in which a worker imports its modules, from whatever disk
_GRACE_SECONDS = 5.0  # until Grain notices that a worker was killed


def count_example() -> None:
    """Says that this process has made one more."""
    # Threads may undo each other's counts; that they change is enough.
    _row[_MADE] += 1


class Crew:
    """The worker processes of a stream of batches; if none, this process's threads.

    Attributes:
      start: what each worker calls first, Grain's `worker_init_fn`.
    """

    def __init__(self, num_workers: int):
        """Prepares for so many processes."""
        self._num_workers, self._rows = num_workers, _row[None]
        if num_workers:
            # Else Python's tracker, which removes what a killed worker has left, tells
            # of it after our one line.
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
            self._memory = SharedMemory(create=True, size=num_workers * _row.nbytes)
            self._rows = _table(self._memory, num_workers)
            self._rows[:] = 0
            self.start = functools.partial(_start, self._memory.name)

    def state(self, batch: int) -> tuple[int, int]:
        """Who makes a batch: the process, 0 before it has begun, and its examples."""
        process, made = self._rows[batch % len(self._rows)].tolist()
        return process, made

    def name(self, batch: int) -> str:
        """Who makes a batch, for people."""
        if not self._num_workers:
            return "reading config.data.train"
        number = batch % self._num_workers
        process = self._rows[number, _PROCESS]
        place = f"process {process}" if process else "not yet started"
        return f"data worker {number} of {self._num_workers} ({place})"

    def kill(self) -> None:
        """Ends the processes, those that are stopped as well."""
        for process in self._rows[: self._num_workers, _PROCESS].tolist():
            if process:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def close(self) -> None:
        """Gives the memory back, once the processes have ended."""
        if self._num_workers:
            self._rows = self._rows.copy()  # closing asks that nobody looks at it
            self._memory.close()
            self._memory.unlink()


def _table(memory: SharedMemory, num_workers: int) -> np.ndarray:
    return np.ndarray((num_workers, 2), np.int64, buffer=memory.buf)


def _start(memory_name: str, worker_index: int, worker_count: int) -> None:
    """Makes this process a worker, which lives exactly as long as the trainer.

    Control-C, and the SIGTERM of a scheduler, reach the workers too, while the trainer
    still needs them for its last step; and Grain's workers would outlive a trainer that
    was killed.
    """
    global _memory, _row
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trainer = os.getppid()

    def follow() -> None:
        while os.getppid() == trainer:
            time.sleep(_TICK_SECONDS)
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
    _memory = SharedMemory(memory_name)  # which has to stay as long as the row
    _row = _table(_memory, worker_count)[worker_index]
    _row[_PROCESS] = os.getpid()


class Batches:
    """An endless iterator in which no wait is endless."""

    def __init__(
        self,
        batches: grain.DatasetIterator,
        crew: Crew,
        stall_seconds: int,
        end: Callable[[BaseException], object],
    ):
        """Begins to watch.

        Args:
          batches: which the workers of the crew make in turn.
          crew: those workers.
          stall_seconds: to wait for one that makes no example.
          end: called from another thread, with what has happened, if the thread that
            waits cannot be freed by killing the workers.
        """
        self._batches, self._crew = batches, crew
        self._stall_seconds, self._end = stall_seconds, end
        self._taken, self._is_waiting = 0, False
        self._stall: TimeoutError | None = None
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Any]:
        """The next batch.

        Raises:
          ChildProcessError: a worker has died.
          TimeoutError: a worker is stuck, and was killed.
        """
        self._is_waiting = True
        try:
            batch = next(self._batches)
        except RuntimeError as error:
            if self._stall is not None:
                raise self._stall from None
            status = re.search(r"terminated.* exit code (-?\d+)", str(error))
            if status is None:
                raise
            who = self._crew.name(self._taken)
            raise ChildProcessError(f"{who} {_death(int(status[1]))}") from error
        finally:
            self._is_waiting = False
        self._taken += 1
        return batch

    def close(self) -> None:
        """Ends the workers."""
        self._closed.set()
        self._watcher.join()
        self._batches.close()
        self._crew.close()

    def _watch(self) -> None:
        before, ticks = None, 0
        # Counted, since the time in which the trainer itself is stopped is no wait.
        while not self._closed.wait(_TICK_SECONDS):
            process, made = self._crew.state(self._taken)
            now = (self._taken, process, made)
            ticks = ticks + 1 if self._is_waiting and now == before else 0
            before = now
            limit = self._stall_seconds if process else _START_SECONDS
            if ticks * _TICK_SECONDS >= limit:
                return self._give_up(limit)
        return None

    def _give_up(self, limit: int) -> None:
        self._stall = TimeoutError(
            f"{self._crew.name(self._taken)} has brought no example for {limit} "
            "seconds and is taken to be stuck; look at the disk that it reads from, or "
            "allow it more by config.data.stall_seconds"
        )
        self._crew.kill()
        if not self._closed.wait(_GRACE_SECONDS) and self._is_waiting:
            self._end(self._stall)


def _death(status: int) -> str:
    if status == -signal.SIGKILL:
        return (
            "was killed by SIGKILL, as happens where memory runs out: fewer "
            "config.data.num_workers need less"
        )
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
