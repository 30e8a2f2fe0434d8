"""Processes find each other, agree, and end together with one line that says why."""

import signal
import socket
import subprocess
import sys
import time

import pytest

_MEMBER = """
import os, sys, time
from cloob_jax import process_group, rendezvous
from cloob_jax.command_line import fail, last_words
from cloob_jax.errors import UserError

process_group.SILENCE_SECONDS = 2.5
port, index, size, seconds, body = sys.argv[1:]
address, index, size = ("127.0.0.1", int(port)), int(index), int(size)
try:
    if index:
        place = rendezvous.follow(address, index, size, float(seconds))
    else:
        place = rendezvous.lead(address, size, float(seconds))
except UserError as error:
    fail(*last_words(error, ""))
group = process_group.ProcessGroup(index, *place, "all was saved")
try:
    exec(body)
    group.leave()
except BaseException as error:
    group.end(error)
"""


@pytest.fixture
def port():
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def start(port, index, body, size=3, seconds=20.0):
    arguments = [str(value) for value in (port, index, size, seconds, body)]
    return subprocess.Popen(
        [sys.executable, "-c", _MEMBER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_all(port, body, size=3):
    return [start(port, index, body, size) for index in range(size)]


def finish(process):
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


def test_values_are_combined_and_shared(port):
    body = "print(group.reduce(index * 10, sum), group.share(index), group.any(index))"
    for process in start_all(port, body):
        assert finish(process) == (0, "30 0 True\n", "")


def test_the_leader_goes_first(port):
    body = (
        "with group.leader_first():\n"
        "    print(time.monotonic())\n"
        "    time.sleep(0.5 if group.is_leader else 0)"
    )
    times = [float(finish(process)[1]) for process in start_all(port, body)]
    assert min(times[1:]) - times[0] > 0.4


def test_what_differs_is_named_in_all_with_its_process(port):
    body = "group.agree({'same': 1, 'config.seed': 7 if index == 2 else 5})"
    for process in start_all(port, body):
        code, _, errors = finish(process)
        assert code == 2 and errors.count("\n") == 1, errors
        assert "process 2 (" in errors and "config.seed" in errors
        assert "has 7" in errors and "has 5" in errors


_WORK = """
print("ready", flush=True)
group.share()
time.sleep(60)
"""


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_is_named_by_all_others(port, victim, number):
    processes = start_all(port, _WORK)
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    processes[victim].send_signal(number)
    others = [p for index, p in enumerate(processes) if index != victim]
    how = "is gone" if number == signal.SIGKILL else "does not answer"
    for process in others:
        code, _, errors = finish(process)
        assert code == 1 and errors.count("\n") == 1, errors
        assert f"process {victim} (" in errors and f"{how}; all was saved" in errors
    assert time.monotonic() - began < (2 if number == signal.SIGKILL else 10)
    processes[victim].kill()
    finish(processes[victim])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_mistake_in_one_process_ends_all_with_its_line(port, victim):
    body = (
        f"if index == {victim}: raise UserError('x.tar: broken')\ngroup.share()\n"
        "time.sleep(60)"
    )
    for index, process in enumerate(start_all(port, body)):
        code, _, errors = finish(process)
        assert code == 2 and errors.count("\n") == 1, errors
        assert errors.endswith("x.tar: broken\n")
        assert (f"process {victim} (" in errors) == (index != victim)


def test_a_line_that_leaves_slowly_still_reaches_all(port):
    body = (
        "send = rendezvous.Connection.send\n"
        "def slowly(self, kind, content=None):\n"
        "    time.sleep(1.5 if kind == 'failed' else 0)\n"
        "    send(self, kind, content)\n"
        "rendezvous.Connection.send = slowly\n"
        "if index == 0: raise UserError('x.tar: broken')\n"
        "group.share()"
    )
    for process in start_all(port, body, size=2):
        code, _, errors = finish(process)
        assert code == 2 and errors.endswith("x.tar: broken\n"), errors


def test_a_save_that_is_under_way_is_waited_for(port):
    body = (
        "began = time.monotonic()\n"
        "def is_saving(): return time.monotonic() < began + 4\n"
        "try:\n"
        "    with group.failing_together(is_saving):\n"
        "        if index == 1: raise UserError('x.tar: broken')\n"
        "        time.sleep(60)\n"
        "finally:\n"
        "    while is_saving(): time.sleep(0.1)"
    )
    began = time.monotonic()
    processes = start_all(port, body, size=2)
    for process in processes:
        code, _, errors = finish(process)
        assert code == 2 and "x.tar: broken" in errors
        assert 4 < time.monotonic() - began < 10


def test_a_leader_that_never_answers(port):
    code, _, errors = finish(start(port, 1, "", seconds=0.5))
    assert code == 1 and errors.count("\n") == 1, errors
    assert f"waited 0.5 s (--join_seconds) for process 0 at 127.0.0.1:{port}" in errors


def test_processes_that_never_come_are_named_to_those_that_did(port):
    processes = [start(port, 0, "", seconds=1.5), start(port, 1, "")]
    for process in processes:
        code, _, errors = finish(process)
        assert code == 1 and "process 2 of 3 at 127.0.0.1" in errors


@pytest.mark.parametrize(
    ("index", "size", "message"),
    [
        (1, 4, "--num_processes is 4 in process 1"),
        (0, 3, "cannot open this port"),
        (1, 3, "--process_id=1 was given twice"),
    ],
)
def test_processes_that_do_not_fit_are_refused(port, index, size, message):
    processes = [start(port, 0, "", seconds=60), start(port, 1, "", seconds=60)]
    time.sleep(1.5)
    odd = start(port, index, "", size, seconds=60)
    if index == 0:
        assert message in finish(odd)[2]
        processes[0].kill()
    else:
        assert message in finish(odd)[2]
        assert message in finish(processes[0])[2]
    processes[1].kill()
    for process in processes:
        finish(process)


def test_what_is_no_process_of_a_run_is_sent_away(port):
    processes = [start(port, 0, "print(group.share(5))", size=2)]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert stranger.recv(100) == b""
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    processes.append(start(port, 1, "print(group.share(5))", size=2))
    for process in processes:
        assert finish(process) == (0, "5\n", "")
