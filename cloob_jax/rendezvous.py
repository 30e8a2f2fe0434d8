"""How the processes of a run find each other: all come to the leader's address."""

import contextlib
import json
import queue
import socket
import threading
import time
from typing import Any

from cloob_jax.command_line import show
from cloob_jax.errors import Outage, UserError

BEAT_SECONDS = 1.0  # between two signs of life
SILENCE_SECONDS = 40.0  # after which a process that gives none is taken for dead
_PATIENCE_SECONDS = 5.0  # before a person is told what is being waited for
_PAUSE_SECONDS = 0.2  # between two tries
_HELLO = "cloob_jax"
_ADVICE = (
    "start all of them, each with its own --process_id and all with the same "
    "--coordinator_address and --num_processes"
)


class Connection:
    """One end of a connection: lines of JSON, each a kind and a content.

    Attributes:
      stream: the socket.
      heard: when something last came, by the monotonic clock.
      doing: what the other end says that it is doing.
      values: what came for the main thread.
    """

    def __init__(self, stream: socket.socket):
        """Takes over a connected socket."""
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Nobody waits longer to send to a process than to hear from it.
        stream.settimeout(SILENCE_SECONDS)
        self.stream = stream
        self.heard, self.doing = time.monotonic(), ""
        self.values: queue.SimpleQueue = queue.SimpleQueue()
        self._sending, self._rest = threading.Lock(), b""

    def send(self, kind: str, content: Any = None) -> None:
        """Sends one message; that it cannot be sent is for the watch to find out."""
        line = json.dumps([kind, content]).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self.stream.sendall(line)

    def beat(self, doing: str = "") -> None:
        """Gives a sign of life, unless a message that is on its way is one already."""
        if not self._sending.locked():
            self.send("beat", doing)

    def receive(self) -> list[tuple[str, Any]] | None:
        """What came since, waiting for it; None when the other end is closed."""
        try:
            content = self.stream.recv(1 << 16)
        except TimeoutError:
            return []
        except OSError:
            return None
        if not content:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + content).split(b"\n")
        messages = []
        for line in lines:
            # A process that is interrupted while it sends leaves half a line.
            with contextlib.suppress(ValueError, TypeError):
                kind, content = json.loads(line)
                messages.append((kind, content))
        return messages


def lead(
    address: tuple[str, int], size: int, timeout: float
) -> tuple[list[str], dict[int, Connection]]:
    """Lets the others in; for process 0.

    Args:
      address: host and port; the port is opened on all interfaces.
      size: how many processes there are.
      timeout: seconds.

    Returns:
      Where each of the processes runs, and the connections to the others.

    Raises:
      UserError: the port cannot be had, or others do not come or do not fit; those who
        came are told.
    """
    hosts = {0: socket.gethostname()}
    connections: dict[int, Connection] = {}
    try:
        with _open_door(address) as door:
            waiting = _Waiting(timeout)
            while len(hosts) < size:
                missing = [str(index) for index in range(size) if index not in hosts]
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                names = ", ".join(missing[:5]) + more
                waiting.go_on(f"process {names} of {size} at {_text(address)}", _ADVICE)
                with contextlib.suppress(TimeoutError):
                    _let_in(Connection(door.accept()[0]), size, hosts, connections)
    except UserError as error:
        for connection in connections.values():
            text, may_pass = (
                f"process 0 ({hosts[0]}): {error}",
                isinstance(error, Outage),
            )
            connection.send("failed", [text, may_pass])
        raise
    in_order = [hosts[index] for index in range(size)]
    for connection in connections.values():
        connection.send("welcome", in_order)
    return in_order, connections


def follow(
    address: tuple[str, int], index: int, size: int, timeout: float
) -> tuple[list[str], dict[int, Connection]]:
    """Comes to process 0; for the others. See `lead`.

    Raises:
      UserError: it does not answer, or another process does not fit.
    """
    waiting = _Waiting(timeout)
    reason = ""
    while True:
        waiting.go_on(
            f"process 0 at {_text(address)}{reason}",
            "start it, and give all processes its address as --coordinator_address",
        )
        try:
            stream = socket.create_connection(address, timeout=_PATIENCE_SECONDS)
        except OSError as error:
            reason = f" ({error.strerror or error})"
            time.sleep(_PAUSE_SECONDS)
            continue
        connection = Connection(stream)
        connection.send(_HELLO, [index, size, socket.gethostname()])
        hosts = _wait_for_welcome(connection, waiting)
        if hosts is not None:
            return hosts, {0: connection}
        reason = " (something answers there, but lets nobody in)"
        stream.close()
        time.sleep(_PAUSE_SECONDS)


class _Waiting:
    """The patience of a process that waits, and of the person who waits for it."""

    def __init__(self, timeout: float):
        now = time.monotonic()
        self._timeout, self._end = timeout, now + timeout
        self._tell = now + _PATIENCE_SECONDS

    def go_on(self, what: str, advice: str) -> None:
        """Raises Outage when it has been long enough."""
        now = time.monotonic()
        if now > self._end:
            raise Outage(
                f"waited {self._timeout:g} s (--join_seconds) for {what}; {advice}"
            )
        if now > self._tell:
            self._tell = self._end
            left = self._end - now
            show(f"waiting for {what}, {left:.0f} s more\n")


def _open_door(address: tuple[str, int]) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        door = socket.create_server(
            ("", address[1]),
            family=socket.AF_INET6 if both else socket.AF_INET,
            backlog=socket.SOMAXCONN,
            dualstack_ipv6=both,
        )
    except OSError as error:
        raise UserError(
            f"--coordinator_address={_text(address)}: process 0 cannot open this port: "
            f"{error.strerror or error}; give another one to all processes"
        ) from None
    door.settimeout(_PAUSE_SECONDS)
    return door


def _let_in(
    connection: Connection,
    size: int,
    hosts: dict[int, str],
    connections: dict[int, Connection],
) -> None:
    """Takes a process in, and sends away whatever else has found the port.

    Raises:
      UserError: it counts the processes otherwise.
    """
    connection.stream.settimeout(_PATIENCE_SECONDS)
    match connection.receive():
        case [(str(kind), [int(index), int(their_size), str(host)])] if kind == _HELLO:
            connection.stream.settimeout(SILENCE_SECONDS)
        case _:
            connection.stream.close()
            return
    name, problem = f"process {index} ({host})", ""
    if their_size != size or not 0 <= index < size:
        problem = f"--num_processes is {their_size} in {name}, and {size} here"
    elif index in connections and _is_open(connections[index]):
        problem = f"--process_id={index} was given twice, on {host} and {hosts[index]}"
    elif index == 0:
        problem = f"--process_id=0 was given twice, here and on {host}"
    if problem:
        connections[-1] = connection  # to be told as well
        raise UserError(f"{problem}; count the processes 0 to {size - 1}, all alike")
    hosts[index], connections[index] = host, connection


def _is_open(connection: Connection) -> bool:
    connection.stream.setblocking(False)
    try:
        return connection.stream.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.stream.settimeout(SILENCE_SECONDS)


def _wait_for_welcome(connection: Connection, waiting: "_Waiting") -> list[str] | None:
    """Where the processes run; None if the other end hangs up or talks otherwise.

    Raises:
      UserError: process 0 sends all home, or takes too long.
    """
    connection.stream.settimeout(_PAUSE_SECONDS)
    while (messages := connection.receive()) is not None:
        waiting.go_on("all processes to come to process 0", _ADVICE)
        for kind, content in messages:
            if kind == "failed":
                text, may_pass = content
                raise Outage(text) if may_pass else UserError(text)
            if kind == "welcome":
                connection.stream.settimeout(SILENCE_SECONDS)
                return content
    return None


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
