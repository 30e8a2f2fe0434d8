"""Processes that live and die together: real ones, which do one thing each."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cloob_jax import team
from cloob_jax.team import Team

# Forking beside JAX's threads; the supervisor itself has no JAX.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


def python(code):
    return [sys.executable, "-u", "-c", code]


def test_lines_are_shown_and_kept_and_the_environment_is_its_own():
    shown = []
    together = Team(lambda index, line: shown.append((index, line)))
    code = "import os, sys; print(os.environ['WHO']); sys.stderr.write('no newline')"
    statuses = together.run([python(code)] * 2, [{"WHO": "a"}, {"WHO": "b"}])
    assert statuses == [0, 0]
    assert sorted(shown) == [(0, "a"), (0, "no newline"), (1, "b"), (1, "no newline")]
    assert [list(lines) for lines in together.lines] == [
        ["a", "no newline"],
        ["b", "no newline"],
    ]


def test_only_the_last_lines_are_kept_and_odd_bytes_are_no_trouble():
    together = Team(lambda index, line: None)
    code = (
        "import sys; print(*range(5000), sep='\\n'); sys.stdout.buffer.write(b'\\xff')"
    )
    assert together.run([python(code)], [{}]) == [0]
    assert list(together.lines[0])[-2:] == ["4999", "\ufffd"]
    assert len(together.lines[0]) == 200


@pytest.mark.parametrize(("number", "patience"), [("SIGSTOP", 60.0), ("SIGCONT", 1.0)])
def test_when_one_fails_the_others_end_too(monkeypatch, number, patience):
    # By being killed, if they do not by themselves: at once where they are stopped.
    monkeypatch.setattr(team, "_OTHERS_SECONDS", patience)
    waits = f"import os, signal as s, time; os.kill(os.getpid(), s.{number}); "
    commands = [python("raise SystemExit(3)"), python(waits + "time.sleep(60)")]
    began = time.monotonic()
    statuses = Team(print).run(commands, [{}, {}])
    assert statuses == [3, -signal.SIGKILL] and time.monotonic() - began < 30


def test_one_that_is_done_does_not_hurry_the_others(monkeypatch):
    monkeypatch.setattr(team, "_OTHERS_SECONDS", 0.1)
    slow = "import time; time.sleep(1)"
    assert Team(print).run([python(""), python(slow)], [{}, {}]) == [0, 0]


def test_what_they_leave_behind_is_not_waited_for():
    child = "import time; time.sleep(30)"
    code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    )
    began = time.monotonic()
    told = []
    code += "; print(subprocess.Popen([sys.executable, '-c', '']).wait())"
    assert Team(lambda _, line: told.append(line)).run([python(code)], [{}]) == [0]
    assert told == ["0"] and time.monotonic() - began < 20


_PARENT = """
import sys
from cloob_jax.team import Team
child = "import os, signal, time; print(os.getpid(), flush=True); " + sys.argv[1]
Team(lambda _, line: print(line, flush=True)).run([[sys.executable, "-c", child]], [{}])
"""


@pytest.mark.parametrize(
    "deed", ["time.sleep(60)", "os.kill(os.getpid(), signal.SIGSTOP)"]
)
def test_a_killed_parent_takes_its_processes_along(deed):
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, deed], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        if "STOP" in deed:
            while not team._is_stopped(child):
                time.sleep(0.01)
        parent.kill()
    deadline = time.monotonic() + 20
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process):
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
