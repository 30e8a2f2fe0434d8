"""Phases add up to the time that passed, by a clock that the tests turn."""

import numpy as np
import pytest

from cloob_jax import pulse as pulse_module
from cloob_jax.pulse import Pulse


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(pulse_module, "time", clock)
    return clock


def test_phases_share_the_time_and_inner_ones_interrupt_outer_ones(clock):
    pulse = Pulse()
    clock.now += 5
    pulse.turn_to("step")
    clock.now += 2
    with pulse.during("evaluate"):
        clock.now += 10
        with pulse.during("save"):
            clock.now += 1
        clock.now += 3
    clock.now += 4
    assert pulse.phase == "step"
    assert pulse.seconds() == {"start": 5, "step": 6, "evaluate": 13, "save": 1}


def test_the_usual_step_leaves_out_those_with_something_else_in_them(clock):
    pulse = Pulse()
    pulse.turn_to("step")
    for step, seconds in enumerate([90, 1, 3, 2, 50, 2, 2], 1):
        pulse.begin_step(step, np.array([step]))
        with pulse.during("evaluate" if step in (1, 5) else "data"):
            clock.now += seconds
    assert pulse.usual_seconds() is None
    pulse.begin_step(8, np.array([8]))
    assert pulse.usual_seconds() == 2  # of 1, 3, 2, 2, 2
    clock.now += 21
    assert pulse.step_seconds() == pulse.silent_seconds() == 21
    pulse.sign()
    assert pulse.step_seconds() == 21 and pulse.silent_seconds() == 0
    with pulse.during("save"):
        assert pulse.step_seconds() == 0
