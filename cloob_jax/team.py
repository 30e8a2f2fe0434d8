"""Processes of this machine that live and die together."""

import collections
import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_KEPT_LINES = 200  # of each process
_LOOK_SECONDS = 0.2
# That the others have to come to an end by themselves, a save included.
_OTHERS_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class Team:
    """Starts processes, shows what they print, and waits until all have ended.

    Attributes:
      lines: the last that each process has printed.
    """

    def __init__(self, show: Callable[[int, str], None]):
        """Starts nothing yet.

        Args:
          show: is given each line that is printed, and the number of the process.
        """
        self._show = show
        self._processes: list[subprocess.Popen[bytes]] = []
        self.lines: list[collections.deque[str]] = []

    def run(
        self,
        commands: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
    ) -> list[int]:
        """Starts a process for each command, and waits for all.

        When one has failed, the others have a minute to end as well, after which they
        are killed, and at once those that are stopped, which never would.

        Args:
          commands: program and arguments.
          environments: what each finds in its environment beside what is here.

        Returns:
          The exit status of each, negative for a signal.
        """
        self.lines = [collections.deque(maxlen=_KEPT_LINES) for _ in commands]
        self._processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Control-C is passed on once, and not by the terminal too.
                start_new_session=True,
                preexec_fn=_die_with_parent,  # this process has no threads
            )
            for command, environment in zip(commands, environments, strict=True)
        ]
        try:
            self._follow()
            return [process.wait() for process in self._processes]
        finally:
            for process in self._processes:
                assert process.stdout is not None
                process.stdout.close()
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def signal(self, number: int) -> None:
        """Passes a signal on to all."""
        for process in self._processes:
            process.send_signal(number)  # nothing happens to one that has ended

    def _follow(self) -> None:
        """Shows lines until all have ended."""
        self._rests = [b""] * len(self._processes)
        deadline = None
        with selectors.DefaultSelector() as selector:
            for index, process in enumerate(self._processes):
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ, index)
            while True:
                ready = selector.select(_LOOK_SECONDS)
                for key, _ in ready:
                    if not self._read(key.fd, key.data):
                        selector.unregister(key.fileobj)
                statuses = [process.poll() for process in self._processes]
                # Their own children may hold the pipes open, and say nothing.
                if not ready and all(status is not None for status in statuses):
                    return
                if any(statuses) and deadline is None:
                    deadline = time.monotonic() + _OTHERS_SECONDS
                if deadline is not None:
                    is_late = time.monotonic() > deadline
                    for process in self._processes:
                        if is_late or _is_stopped(process.pid):
                            process.kill()

    def _read(self, pipe: int, index: int) -> bool:
        """Shows the lines that have come; whether more can."""
        content = os.read(pipe, 1 << 16)
        *lines, rest = (self._rests[index] + (content or b"\n")).split(b"\n")
        self._rests[index] = rest
        if not content and not lines[0]:
            lines = []
        for line in lines:
            text = line.decode("utf-8", "replace")
            self.lines[index].append(text)
            self._show(index, text)
        return bool(content)


def _is_stopped(process: int) -> bool:
    """Whether it was sent SIGSTOP (proc(5), the third field of stat)."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"


def _die_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies.

    Not by SIGTERM, after which a run would save: one that is stopped would never see
    it, and hold the run directory for ever.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
