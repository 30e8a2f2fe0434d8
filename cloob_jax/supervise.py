"""Starts training, and starts it again from the last checkpoint when it fails.

    python -m cloob_jax.supervise [--num_processes=N] [--max_failures=K] -- ARGUMENTS

The arguments are those of cloob_jax.main, of which one process is started, which finds
its cluster by itself if there is one (run it on every host of a pod), or N that train
together on this machine. A signal to stop is passed on: the run saves and ends, and so
does this command. It gives up after K failures without a new checkpoint (status 1), and
at once where somebody has to change something (status 2).
"""

import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from cloob_jax import bucket, config_flag, sessions, user_cache, writers
from cloob_jax.command_line import Parser, clear_errors, fail, say, show
from cloob_jax.errors import UserError
from cloob_jax.team import Team

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds, doubled after each failure
# Before there was something to save, the signal itself or KeyboardInterrupt ended it.
_STOPPED = {0, -signal.SIGTERM, -signal.SIGINT, 130}
_GPUS = Path("/proc/driver/nvidia/gpus")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = Parser(
        "python -m cloob_jax.supervise", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--num_processes", type=int, default=1, help="processes on this machine"
    )
    parser.add_argument(
        "--max_failures",
        type=int,
        default=5,
        help="failures in a row, without a new checkpoint, after which it gives up",
    )
    ours, theirs = _split(arguments)
    given = parser.parse_args(ours)
    for name in ("num_processes", "max_failures"):
        if getattr(given, name) < 1:
            fail(f"--{name}={getattr(given, name)}: expected at least 1")
    with clear_errors("what was saved stays"):
        workdir = config_flag.workdir(theirs)
        if workdir is None:
            raise UserError("--config is missing; give main's arguments after --")
        sys.exit(
            _Supervisor(theirs, workdir, given.num_processes).run(given.max_failures)
        )


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before -- and what after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


class _Supervisor:
    """What is known over the tries."""

    def __init__(self, arguments: list[str], workdir: Path, num_processes: int):
        self._arguments = arguments
        url = bucket.url_of(workdir)
        self._workdir = epath.Path(url or workdir)
        # A bucket's run has a place for them on this machine.
        self._kept = (user_cache.directory("runs") if url else workdir) / "last_lines"
        self._num_processes = num_processes
        self._team = Team(self._show)
        self._is_stopping = False

    def run(self, max_failures: int) -> int:
        """Tries until there is an end to it; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _: self._team.signal(number))
        failures, pause, reached = 0, _FIRST_PAUSE, self._last_checkpoint()
        for attempt in itertools.count(1):
            statuses = self._team.run(self._commands(), self._environments())
            end = self._end(statuses)
            if end is not None:
                return end
            now = self._last_checkpoint()
            if now > reached:
                failures, pause, reached = 0, _FIRST_PAUSE, now
            if any(statuses):
                failures += 1
                self._keep_lines(attempt, statuses)
            if failures >= max_failures:
                break
            say(f"{_how(statuses)}; goes on from step {reached} in {pause:g} s")
            self._sleep(pause)
            if self._is_stopping:
                return 0
            pause = min(2 * pause, _LONGEST_PAUSE)
        say(
            f"gave up: {_how(statuses)}, {failures} times without a checkpoint after "
            f"step {reached}; the last lines of each process are in {self._kept}"
        )
        return 1

    def _end(self, statuses: list[int]) -> int | None:
        """The exit status, if there is to be no other try."""
        if self._is_stopping:
            return 0 if set(statuses) <= _STOPPED else 1
        if 2 in statuses:
            return 2  # which the process has said why
        is_finished = not any(statuses) and self._is_finished()
        return 0 if is_finished else None

    def _commands(self) -> list[list[str]]:
        command = [sys.executable, "-m", "cloob_jax.main", *self._arguments]
        if self._num_processes == 1:
            return [command]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        together = [
            f"--coordinator_address=127.0.0.1:{port}",
            f"--num_processes={self._num_processes}",
        ]
        return [
            [*command, *together, f"--process_id={index}"]
            for index in range(self._num_processes)
        ]

    def _environments(self) -> list[dict[str, str]]:
        """Gives each process its share of the GPUs, if there are any."""
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        if devices is None and _GPUS.is_dir():
            devices = ",".join(str(i) for i in range(len(list(_GPUS.iterdir()))))
        count = self._num_processes
        if not devices or count == 1:
            return [{}] * count
        names = devices.split(",")
        share, rest = divmod(len(names), count)
        if rest:
            raise UserError(
                f"--num_processes={count} does not divide the {len(names)} GPUs of "
                "this machine; give a number that does, or set CUDA_VISIBLE_DEVICES"
            )
        parts = [names[i * share : (i + 1) * share] for i in range(count)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(part)} for part in parts]

    def _show(self, index: int, line: str) -> None:
        prefix = f"[{index}] " if self._num_processes > 1 else ""
        show(f"{prefix}{line}\n")

    def _stop(self, number: int, _: object) -> None:
        self._is_stopping = True
        self._team.signal(number)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._is_stopping:
            time.sleep(min(0.1, seconds))

    def _last_checkpoint(self) -> int:
        folder = self._workdir / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _is_finished(self) -> bool:
        found = sessions.read(self._workdir)
        return bool(found) and found[-1].ended == "finished"

    def _keep_lines(self, attempt: int, statuses: list[int]) -> None:
        host, stamp = socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")
        for index, status in enumerate(statuses):
            text = "\n".join(self._team.lines[index])
            path = self._kept / f"{host}_{index}.txt"
            try:
                writers.write_text(
                    path, f"{stamp} try {attempt}, exit status {status}\n{text}\n"
                )
            except OSError as error:
                say(f"{path}: {error.strerror}")


def _how(statuses: list[int]) -> str:
    """How it has ended, in words."""
    if not any(statuses):
        return "training was stopped before its end"
    # Who was killed has made the others fail.
    index = min(range(len(statuses)), key=lambda i: statuses[i])
    status = statuses[index]
    if status >= 0:
        index = next(i for i, found in enumerate(statuses) if found)
        return f"process {index} ended with status {statuses[index]}"
    return f"process {index} was killed by {signal.Signals(-status).name}"


if __name__ == "__main__":
    main()
