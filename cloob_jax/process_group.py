"""The processes of one run: the few values they agree on, and the watch they keep.

Each process holds one connection to the leader, process 0, from before JAX starts until
all have done their work. Over it go small values and a beat each second: a connection
that ends or falls silent is a process that is gone, without which no step can be made,
so the others end as well. JAX watches too, but ends processes after 100 seconds, by
SIGABRT and with a page of log that names nobody.
"""

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from cloob_jax import command_line
from cloob_jax.errors import UserError
from cloob_jax.rendezvous import BEAT_SECONDS, SILENCE_SECONDS, Connection

_GRACE_SECONDS = 20.0  # that a failing run has to bring a save to its end
_LISTENING_SECONDS = 10.0  # that a busy process has to hear the last words of another


class ProcessGroup:
    """This process among those of the run.

    What is collective (`reduce` and all that rests on it) is called by all processes in
    the same order, from their main threads.

    Attributes:
      index: which of the processes this is.
      size: how many there are.
      is_leader: whether this is process 0, which writes what people read.
    """

    def __init__(
        self,
        index: int = 0,
        hosts: Sequence[str] = ("",),
        connections: Mapping[int, Connection] | None = None,
        stays: str = "",
    ):
        """Starts to watch the others; by default there are none.

        Args:
          index: which of the processes this is.
          hosts: where each of them runs.
          connections: of the leader to all others, of another to the leader.
          stays: what is not lost when a run ends early, for the message.
        """
        self.index, self.size, self.is_leader = index, len(hosts), index == 0
        self._names = [f"process {i} ({host})" for i, host in enumerate(hosts)]
        if self.size == 1:
            self._names = ["this process"]
        self._connections = dict(sorted((connections or {}).items()))
        self._stays = stays
        self._is_saving: Callable[[], bool] = lambda: False
        self._doing: Callable[[], str] = lambda: ""
        self._last_words: tuple[str, int] | None = None
        self._deadline = 0.0
        self._telling, self._ending = threading.Lock(), threading.Lock()
        if self._connections:
            threading.Thread(target=self._watch, daemon=True).start()

    def reduce(self, value: Any, combine: Callable[[list], Any]) -> Any:
        """What `combine` makes of the values of all processes; collective.

        Args:
          value: this process's, JSON.
          combine: called by the leader alone, with the values in the order of the
            processes; its result is JSON, too.
        """
        return self._reduce("value", value, combine)

    def any(self, value: bool) -> bool:
        """Whether it is so in any process; collective."""
        return self.reduce(value, any)

    def share(self, value: Any = None) -> Any:
        """The leader's value; collective."""
        return self.reduce(value, lambda values: values[0])

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Makes sure that all processes were given the same; collective.

        Args:
          facts: by names that the user knows, JSON.

        Raises:
          UserError: in every process, naming the first that differs.
        """
        problem = self.reduce(dict(facts), self._first_difference)
        if problem is not None:
            raise UserError(problem)

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The others do what is inside when the leader has done it; collective."""
        if not self.is_leader:
            self.share()
        yield
        if self.is_leader:
            self.share()

    @contextlib.contextmanager
    def failing_together(self, is_saving: Callable[[], bool]) -> Iterator[None]:
        """Tells the others at once of an error that is on its way out of here.

        Else they would wait in the middle of a step for a process that tidies up, and
        it for them.

        Args:
          is_saving: whether a save is under way, which all wait for, within limits.
        """
        self._is_saving = is_saving
        try:
            yield
        except BaseException as error:
            if self.size > 1:
                self._tell_error(error)
            raise

    def tell_of(self, doing: Callable[[], str]) -> None:
        """Tells process 0 what this one is doing, each second, from another thread."""
        self._doing = doing

    def doings(self) -> dict[str, str]:
        """What each process was last known to do, by name; in process 0, of all."""
        found = {self._names[self.index]: self._doing()}
        now = time.monotonic()
        for index, connection in self._connections.items() if self.is_leader else ():
            silent = now - connection.heard
            is_late = silent > 5 * BEAT_SECONDS
            found[self._names[index]] = (
                f"silent for {silent:.0f}s" if is_late else connection.doing
            )
        return found

    def abandon(self, line: str) -> NoReturn:
        """Ends all processes from any thread, since no work gets done any more."""
        self._tell(f"{line}; {self._stays}; start it again to go on", 1)
        while self._is_saving() and time.monotonic() < self._deadline:
            time.sleep(BEAT_SECONDS / 10)
        assert self._last_words is not None
        self._exit(*self._last_words)

    def leave(self) -> None:
        """Waits until all have done their work, and ends the watch; collective."""
        self._reduce("leave", None, lambda values: None)

    def end(self, error: BaseException) -> NoReturn:
        """Ends this process, and with it the others, for an error."""
        self._exit(*self._tell_error(error))

    def _reduce(self, kind: str, value: Any, combine: Callable[[list], Any]) -> Any:
        others = list(self._connections.values())
        if not self.is_leader:
            others[0].send(kind, value)
            return others[0].values.get()
        result = combine([value, *(other.values.get() for other in others)])
        for other in others:
            other.send(kind, result)
        return result

    def _first_difference(self, values: list[dict[str, Any]]) -> str | None:
        ours = values[0]
        for index, theirs in enumerate(values):
            names = sorted(ours.keys() | theirs.keys())
            # As text, in which a NaN is like another.
            differing = [n for n in names if str(theirs.get(n)) != str(ours.get(n))]
            if differing:
                name, rest = differing[0], len(differing) - 1
                more = f" (and {rest} more)" if rest else ""
                return (
                    f"the processes disagree on {name}{more}: {self._names[index]} has "
                    f"{theirs.get(name)}, {self._names[0]} has {ours.get(name)}; start "
                    "all with the same flags, data and versions"
                )
        return None

    def _watch(self) -> None:
        """Hears the others, until all have left or this process is to end."""
        with selectors.DefaultSelector() as selector:
            for index, connection in self._connections.items():
                connection.heard = time.monotonic()
                selector.register(connection.stream, selectors.EVENT_READ, index)
            next_beat = 0.0
            while selector.get_map() or self._last_words:
                for key, _ in selector.select(BEAT_SECONDS):
                    if not self._hear(key.data):
                        selector.unregister(key.fileobj)
                present = [key.data for key in selector.get_map().values()]
                self._end_if_told(present)
                now = time.monotonic()
                for index in present:
                    if now - self._connections[index].heard > SILENCE_SECONDS:
                        self._lose(index, "does not answer")
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    for index in present:
                        self._connections[index].beat(self._doing())

    def _hear(self, index: int) -> bool:
        """Handles what one process sent; whether more is to come."""
        connection = self._connections[index]
        messages = connection.receive()
        if messages is None:
            if self._last_words is None:
                self._lose(index, "is gone")
            return False
        for kind, content in messages:
            if kind == "failed":
                line, status = content
                self._tell(line, status, but=index)
            elif kind == "beat":
                connection.doing = str(content)
            else:
                connection.values.put(content)
        return all(kind != "leave" for kind, _ in messages)

    def _lose(self, index: int, how: str) -> NoReturn:
        again = "start all processes again to go on"
        self._tell(f"{self._names[index]} {how}; {self._stays}; {again}", 1)
        del self._connections[index]  # nobody there to hear more
        assert self._last_words is not None
        self._exit(*self._last_words)

    def _tell_error(self, error: BaseException) -> tuple[str, int]:
        """Tells the others what happens here; returns this process's own last words."""
        if self._last_words is None:
            # It may follow from a death, which the watch will then have named.
            time.sleep(2 * BEAT_SECONDS)
        line, status = command_line.last_words(error, self._stays)
        if not isinstance(error, (UserError, OSError, KeyboardInterrupt)):
            # A mistake of ours, of which the one line says too little.
            command_line.show("".join(traceback.format_exception(error)))
        self._tell(f"{self._names[self.index]}: {line}", status, own=line)
        return line, status

    def _tell(
        self, line: str, status: int, but: int | None = None, own: str | None = None
    ) -> None:
        """Makes a line the last words of all processes, unless there are some."""
        with self._telling:
            if self._last_words is not None:
                return
            for index, connection in self._connections.items():
                if index != but:
                    connection.send("failed", [line, status])
            self._deadline = time.monotonic() + _GRACE_SECONDS
            # Now, and not before: whoever finds them may end this process.
            self._last_words = (own or line, status)

    def _end_if_told(self, present: list[int]) -> None:
        if self._last_words is not None:
            # Alone, or too late, nothing can be saved.
            in_time = present and time.monotonic() < self._deadline
            if not (in_time and self._is_saving()):
                self._exit(*self._last_words)

    def _exit(self, line: str, status: int) -> NoReturn:
        """Ends this process with one line, whatever its other threads wait for."""
        with self._ending:  # whoever comes second waits here for the end
            if sys.stderr.isatty():
                command_line.show("\r\x1b[K")
            command_line.say(line)
            self._drain()
            os._exit(status)

    def _drain(self) -> None:
        # Closing a connection with something unread in it would take back what was
        # sent and not yet read at the other end.
        streams = [connection.stream for connection in self._connections.values()]
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LISTENING_SECONDS
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.settimeout(max(deadline - time.monotonic(), 0.01))
                while stream.recv(1 << 16):
                    pass
