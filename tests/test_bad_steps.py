"""What is told of losses that jump or are not finite, on losses written by hand."""

import json
import math

import numpy as np
import pytest

from cloob_jax.bad_steps import BadSteps


def values(loss, grad_norm=1.0, param_norm=1.0):
    return {"loss": loss, "grad_norm": grad_norm, "param_norm": param_norm}


def test_what_is_not_finite_is_counted_and_what_is_finite_ends_the_count(tmp_path):
    bad = BadSteps(tmp_path, 0, True)
    found = []
    for step, loss in enumerate([1.0, math.nan, math.inf, 1.0, -math.inf], 1):
        found.append((bad.check(step, values(loss)), bad.in_a_row, bad.skipped))
    fault = "not finite"
    expected = [(None, 0, 0), (fault, 1, 1), (fault, 2, 2), (None, 0, 2), (fault, 1, 3)]
    assert found == expected
    assert bad.check(6, values(1.0, grad_norm=math.inf)) == fault and not bad.is_lost
    found = bad.check(7, values(1.0, param_norm=math.nan))
    assert found == "parameters not finite" and bad.is_lost


def test_a_loss_far_from_the_last_ones_is_a_spike_and_noise_is_none(tmp_path):
    rng, bad = np.random.default_rng(0), BadSteps(tmp_path, 0, False)
    falling = 6 * np.exp(-np.arange(2000) / 500) + rng.normal(0, 0.1, 2000)
    falling[[700, 701, 1500]] += 2.0
    faults = [
        bad.check(step, values(loss)) for step, loss in enumerate(falling.tolist())
    ]
    assert np.flatnonzero(faults).tolist() == [700, 701, 1500] and bad.spikes == 3
    # A fall is no spike, nor is a rise by 7 % of losses that hardly vary.
    steady = BadSteps(tmp_path, 0, False)
    assert not any(steady.check(step, values(4.0)) for step in range(50))
    assert steady.check(50, values(0.1)) is None
    assert steady.check(51, values(4.3)) is None
    assert steady.check(52, values(4.5)) == "loss spike"
    assert steady.usual_loss() == 4.0


def test_the_list_forgets_what_a_killed_run_met_later(tmp_path):
    bad = BadSteps(tmp_path, 0, True)
    for step, loss in ((3, math.nan), (7, math.nan)):
        fault = bad.check(step, values(loss))
        bad.write(step, fault, ["a.tar 1", "a.tar 2"])
    bad.write(8, "loss spike", ["a.tar 3"])
    rows = [json.loads(line) for line in bad.path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 7, 8]
    assert rows[0]["metrics"]["loss"] == "nan" and rows[1]["records"][1] == "a.tar 2"
    again = BadSteps(tmp_path, 7, True)
    assert (again.skipped, again.spikes, again.in_a_row) == (2, 0, 0)
    assert len(bad.path.read_text().splitlines()) == 2


@pytest.mark.parametrize("text", ["", "{", "7\n", '{"a": 1}\n'])
def test_a_damaged_list_is_no_reason_to_stop(tmp_path, text):
    (tmp_path / "bad_steps.jsonl").write_text(text)
    assert BadSteps(tmp_path, 100, True).skipped == 0
