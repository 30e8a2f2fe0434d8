"""Work shared out to processes, which live no longer than the one that began it."""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

_GRACE_SECONDS = 5.0  # for a worker to clean up after itself


class Died(Exception):
    """A worker ended by itself in the middle of an item.

    Attributes:
      item: what it worked on.
      how: `was killed by SIGKILL`, `ended with status 1`.
    """

    def __init__(self, item: Any, exit_code: int | None):
        """Of a process that ended with `exit_code`, a signal if it is negative."""
        self.item, code = item, exit_code or 0
        self.how = (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with status {code}"
        )
        super().__init__(f"the process that worked on {item} {self.how}")


def results(
    work: Callable[[Any, Callable[[Any], None]], Any],
    items: Sequence[Any],
    num_processes: int,
    report: Callable[[Any], None] = lambda message: None,
) -> Generator[tuple[Any, Any], None, None]:
    """Yields each item with `work(item, report)`, in the order in which they end.

    Closing it ends all workers, and so does the end of this process, however it comes:
    SIGTERM raises `SystemExit` in them. Control-C is for this process alone.

    Args:
      work: a picklable function; with several processes it has to be of a module.
      items: what it is called with.
      num_processes: of which one is this process itself if there is no other.
      report: called here, with what `work` calls its second argument with.

    Raises:
      Died: a worker was killed, for want of memory perhaps.
      Exception: whatever `work` raises.
    """
    num_processes = min(num_processes, len(items))
    if num_processes <= 1:
        for item in items:
            yield item, work(item, report)
        return
    waiting = iter(items)
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(num_processes):
            worker = _start(work)
            workers[worker.connection] = worker
            worker.take(next(waiting))
        while workers:
            ready: Any = multiprocessing.connection.wait(list(workers))
            for connection in ready:
                worker = workers[connection]
                kind, content = worker.receive()
                if kind == "error":
                    raise content
                if kind == "report":
                    report(content)
                    continue
                yield worker.item, content
                if not worker.take(next(waiting, None)):
                    del workers[connection]
    finally:
        _end(list(workers.values()))


def num_cores() -> int:
    """The cores that this process may use."""
    # Where the system tells (not on macOS).
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass
class _Worker:
    process: Any
    connection: Connection
    item: Any = None

    def take(self, item: Any) -> bool:
        """Hands over an item; without one, sends it home."""
        self.item = item
        try:
            self.connection.send(item)
        except OSError:  # it died; `receive` says so
            return True
        if item is None:
            self.process.join()
        return item is not None

    def receive(self) -> tuple[str, Any]:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Died(self.item, self.process.exitcode) from None


def _start(work: Callable) -> _Worker:
    # Spawned, because a forked copy of a process that runs JAX's threads can hang.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work), daemon=True)
    # Inherited, so that not even the import of a worker sees control-C. The tracker,
    # which comes first, would undo it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    return _Worker(process, here)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_GRACE_SECONDS)
        worker.process.kill()
        worker.process.join()


def _serve(connection: Connection, work: Callable) -> None:
    """What a worker does: items in; reports, results and errors out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while (item := connection.recv()) is not None:
        try:
            message = (
                "result",
                work(item, lambda sent: connection.send(("report", sent))),
            )
        except Exception as error:
            error.add_note(traceback.format_exc())  # pickling forgets where it was
            message = "error", error
        connection.send(message)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
