"""Goodput across restarts, against what is counted by hand."""

import json

import pytest

from cloob_jax import pulse as pulse_module
from cloob_jax import sessions
from cloob_jax.pulse import Pulse
from cloob_jax.sessions import Record, Session


def session(number, began, first, last, **seconds):
    seen = began + sum(seconds.values())
    return Session(number, began, seen, first, last, seconds=seconds)


def test_shares_of_a_run_that_was_killed_and_of_its_lost_steps():
    found = sessions.shares(
        [
            session(1, 100.0, 0, 50, start=10.0, step=50.0, data=5.0),  # to 165
            session(2, 185.0, 40, 44, start=10.0, step=4.0),  # to 199; killed again
            session(3, 200.0, 40, 60, start=8.0, step=20.0, evaluate=2.0),
        ]
    )
    total = 130.0  # from 100 to 230
    assert found["down"] == pytest.approx((20 + 1) / total)
    assert found["redone"] == pytest.approx((10 + 4) / total)
    assert found["step"] == pytest.approx((40 + 0 + 20) / total)
    assert found["start"] == pytest.approx(28 / total)
    assert sum(found.values()) == pytest.approx(1)


def test_a_clock_that_was_put_back_makes_no_time():
    found = sessions.shares(
        [
            session(1, 5000.0, 0, 10, start=1.0, step=9.0),
            session(2, 100.0, 10, 20, start=1.0, step=9.0),
        ]
    )
    assert found["down"] == 0 and found["step"] == pytest.approx(0.9)
    assert sessions.shares([])["step"] == 0


def test_a_record_is_on_disk_at_once_and_added_to_those_before(tmp_path, monkeypatch):
    class Clock:
        def __init__(self, now):
            self.now = now

        def monotonic(self):
            return self.now

        def time(self):
            return self.now

    steady, wall = Clock(50.0), Clock(9000.0)
    monkeypatch.setattr(pulse_module, "time", steady)
    monkeypatch.setattr(sessions, "time", wall)
    pulse = Pulse()
    steady.now += 7  # of start
    record = Record(tmp_path, pulse, 40, host="here", processes=2)
    pulse.turn_to("step")
    steady.now += 3
    wall.now -= 86400  # somebody sets the clock
    assert record.write(43)["step"] == pytest.approx(0.3)
    [found] = sessions.read(tmp_path)
    assert (found.began, found.seen) == (8993.0, 9003.0)
    assert (found.first_step, found.last_step, found.ended) == (40, 43, None)
    assert found.seconds == {"start": 7, "step": 3} and found.host == "here"
    record.end("failed", "no room")
    second = Record(tmp_path, Pulse(), 43)
    second.end("finished")
    assert [s.ended for s in sessions.read(tmp_path)] == ["failed", "finished"]
    assert [s.number for s in sessions.read(tmp_path)] == [1, 2]


@pytest.mark.parametrize("text", ["", "[{", "7", '["a"]', '[{"number": 1}]', "{}"])
def test_a_damaged_file_is_no_session(tmp_path, text):
    (tmp_path / "sessions.json").write_text(text)
    assert sessions.read(tmp_path) == []
    Record(tmp_path, Pulse(), 0)
    assert len(json.loads((tmp_path / "sessions.json").read_text())) == 1
