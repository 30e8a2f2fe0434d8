"""A process that is slow is named, and one that hangs is ended."""

import subprocess
import sys
import time

import numpy as np
import pytest

from cloob_jax import watchdog
from cloob_jax.process_group import ProcessGroup
from cloob_jax.pulse import Pulse
from cloob_jax.watchdog import Watchdog


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(pulse, count):
    pulse.turn_to("step")
    for step in range(1, count + 1):
        pulse.begin_step(step, np.array([step, 100 + step]))
        time.sleep(0.002)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(watchdog, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(watchdog, "_LEAST_SECONDS", 0.2)


def a_place_to_be_stuck_in(seconds):
    time.sleep(seconds)


def test_a_slow_step_is_told_once_with_phase_records_and_stacks(tmp_path, hasty):
    pulse, said = Pulse(), []
    with Watchdog(pulse, ProcessGroup(), said.append, 60, tmp_path / "s") as watch:
        watch.names = lambda records: [f"a.tar {number}" for number in records]
        steps(pulse, 9)
        with pulse.during("data"):
            a_place_to_be_stuck_in(0.6)
        assert len(said) == 1, said
        assert said[0].startswith("step 9 has taken 0s, 0.0") and "is usual" in said[0]
        assert "waiting for data in step 9" in said[0]
        steps(pulse, 20)  # goes on
        with pulse.during("evaluate"):
            time.sleep(0.5)  # no step, and not told
    assert len(said) == 1
    stacks = (tmp_path / "s" / "process_0.txt").read_text()
    assert "records a.tar 9, a.tar 109" in stacks
    assert "a_place_to_be_stuck_in" in stacks and "_watch" in stacks


def test_where_stacks_cannot_be_written_the_run_goes_on(tmp_path, hasty):
    (tmp_path / "s").write_text("no folder")
    pulse, said = Pulse(), []
    with Watchdog(pulse, ProcessGroup(), said.append, 60, tmp_path / "s"):
        steps(pulse, 9)
        until(lambda: len(said) == 2)
    assert "no stacks could be written" in said[0] and "has taken" in said[1]


class _Four(ProcessGroup):
    def doings(self):
        waits = "waiting for the other processes in step 8 for 60s"
        late = "waiting for data in step 8 for 61s"
        texts = [waits, waits, late, waits]
        return {f"process {i} (host{i})": text for i, text in enumerate(texts)}


def test_the_one_for_whom_the_others_wait_comes_first(tmp_path, hasty):
    pulse, said = Pulse(), []
    with Watchdog(pulse, _Four(), said.append, 60, tmp_path):
        steps(pulse, 9)
        until(lambda: said)
    assert "is usual: process 2 (host2) waiting for data in step 8 for 61s, " in said[0]


_HANG = """
import sys, time
from pathlib import Path
from cloob_jax import watchdog
from cloob_jax.process_group import ProcessGroup
from cloob_jax.pulse import Pulse

phase, folder = sys.argv[1:]
watchdog._PATIENCE, watchdog._LOOK_SECONDS = 3.0, 0.05
pulse = Pulse()
pulse.turn_to(phase)
group = ProcessGroup(stays="all was saved")
began = time.monotonic()
with watchdog.Watchdog(pulse, group, print, 1, Path(folder)):
    try:
        time.sleep(2)
        print("two", flush=True)
        time.sleep(60)
    finally:
        print("nobody tidies up", flush=True)
"""


@pytest.mark.parametrize(("phase", "printed"), [("step", ""), ("evaluate", "two\n")])
def test_what_does_not_move_is_ended_with_one_line(tmp_path, phase, printed):
    done = subprocess.run(
        [sys.executable, "-c", _HANG, phase, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and done.stdout == printed
    [line] = done.stderr.splitlines()
    assert "config.hang_seconds=1" in line and "all was saved; start it again" in line
    line = 16 if phase == "step" else 18
    assert f'"<string>", line {line}' in (tmp_path / "process_0.txt").read_text()
