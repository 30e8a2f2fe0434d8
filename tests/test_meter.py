"""What the progress line and the metrics say of speed."""

import time

import jax
import pytest

from cloob_jax import chips, step_flops
from cloob_jax.meter import Meter
from configs import shapes_tiny


def test_rates_are_of_the_interval(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = Meter(32, 0.25)
    with meter.waiting():
        now += 0.5
    for _ in range(4):
        now += 0.375
        meter.count()
    # Four steps of 32 in two seconds, a quarter of which was waited for.
    expected = {"samples_per_second": 64, "data_wait_fraction": 0.25, "mfu": 0.5}
    assert meter.read() == expected
    meter.restart()
    now += 1.0
    assert meter.read() == dict.fromkeys(expected, 0)
    assert "mfu" not in Meter(32).read()


def test_the_peak_is_that_of_all_chips(monkeypatch):
    config = shapes_tiny.get_config()
    config.model.name = "ViT-tiny"
    assert step_flops.seconds_at_peak(config) is None  # a CPU
    flops = step_flops.model(config)
    of_kind = chips.CHIPS["tpu7x"]
    monkeypatch.setattr(chips, "of_device_kind", lambda kind: of_kind)
    # Eight devices, two a chip.
    assert jax.device_count() == 8
    seconds = step_flops.seconds_at_peak(config)
    assert seconds == pytest.approx(flops / (4 * of_kind.peak_flops))
