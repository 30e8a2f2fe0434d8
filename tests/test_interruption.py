"""A signal is a wish to stop; one much later is an order."""

import signal

import pytest

from cloob_jax.interruption import Stop


@pytest.fixture(autouse=True)
def interrupts():
    """Control-C as it is in a terminal: jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("later", "is_order"), [(0.5, False), (5.0, True)])
def test_only_a_later_signal_is_an_order(monkeypatch, later, is_order):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Stop() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        clock[0] += later
        if is_order:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)


def test_outside_everything_is_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with Stop():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
