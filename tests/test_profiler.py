"""Which steps are traced, by flag and by signal."""

import os
import signal

import jax.numpy as jnp
import pytest

from cloob_jax import profiler
from cloob_jax.errors import UserError
from cloob_jax.profiler import Profiler


@pytest.fixture
def traces(monkeypatch):
    """What was begun and ended, instead of JAX's profiler."""
    found = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda path: found.append("on"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: found.append("off"))
    return found


def go(watch, steps, traces):
    for step in steps:
        watch.begin(step)
        traces.append(step)
        watch.end(step, jnp.zeros(()))


def test_the_steps_of_the_flag_are_traced(tmp_path, traces):
    said = []
    with Profiler(profiler.parse("3:5"), tmp_path, said.append) as watch:
        go(watch, range(1, 8), traces)
    assert traces == [1, 2, "on", 3, 4, "off", 5, 6, 7]
    assert said == [f"steps 3 to 4 traced in {tmp_path}"]


def test_a_run_that_goes_on_or_ends_in_the_middle(tmp_path, traces):
    with Profiler(profiler.parse("3:9"), tmp_path, print) as watch:
        go(watch, range(6, 8), traces)
    assert traces == ["on", 6, 7, "off"]


def test_a_signal_asks_for_the_next_steps_and_again(tmp_path, traces):
    before = signal.getsignal(signal.SIGUSR1)
    with Profiler(range(0), tmp_path, print) as watch:
        go(watch, [1], traces)
        for first in (2, 20):
            os.kill(os.getpid(), signal.SIGUSR1)
            go(watch, range(first, first + 7), traces)
    expected = [1, "on", *range(2, 7), "off", 7, 8]
    assert traces == [*expected, "on", *range(20, 25), "off", 25, 26]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_real_trace_is_written(tmp_path):
    with Profiler(range(1, 2), tmp_path, print) as watch:
        watch.begin(1)
        watch.end(1, jnp.arange(5.0).sum())
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize("text", ["7", "9:9", "9:3", "a:b", "0:4", ":", "1:2:3"])
def test_what_is_no_range_of_steps_is_named(text):
    with pytest.raises(UserError, match=f"--profile_steps={text}: expected FIRST:END"):
        profiler.parse(text)
    assert len(profiler.parse(None)) == 0
