"""`metrics.jsonl` as columns."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloob_jax.reporting import metric_lines


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "metrics.jsonl"


def test_columns(path):
    rows = [
        {"step": 1, "examples_seen": 4, "a": 1.5},
        {"step": 2, "examples_seen": 8, "a": 2, "b": 7.0},
        {"step": 2, "examples_seen": 8, "c": 0.5},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    series, damaged = metric_lines.read(path)
    assert list(series) == ["a", "b", "c"] and damaged == 0
    np.testing.assert_array_equal(series["a"].steps, [1, 2])
    np.testing.assert_array_equal(series["a"].examples, [4, 8])
    np.testing.assert_array_equal(series["a"].values, [1.5, 2])


def test_what_is_no_number_is_a_gap(path):
    values = ["NaN", "-Infinity", "null", '"1"', "[1]", "1e999", "1" * 400, "1e200"]
    text = "".join(f'{{"step": {i}, "a": {v}}}\n' for i, v in enumerate(values))
    path.write_text(text + '{"step": 99, "a": 3}\n')
    series, damaged = metric_lines.read(path)
    np.testing.assert_array_equal(series["a"].values, [np.nan] * 8 + [3])
    assert damaged == 0


def test_damaged_lines_are_counted_but_not_one_that_is_being_written(path):
    bad = ["x", "[1]", '{"a": 1}', '{"step": null, "a": 1}', "[" * 99_999, "\x00"]
    text = "\n".join([*bad, "", '{"step": 1, "a": 1}', '{"step": 2, "a'])
    path.write_text(text)
    series, damaged = metric_lines.read(path)
    np.testing.assert_array_equal(series["a"].steps, [1])
    assert damaged == len(bad)


def test_steps_are_put_in_order_and_the_later_line_counts(path):
    pairs = [(3, 1.0), (1, 2.0), (3, 4.0), (2, 5.0)]
    text = "".join(f'{{"step": {step}, "a": {value}}}\n' for step, value in pairs)
    path.write_text(text)
    series, _ = metric_lines.read(path)
    np.testing.assert_array_equal(series["a"].steps, [1, 2, 3])
    np.testing.assert_array_equal(series["a"].values, [2, 5, 4])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(), st.just(b'{"step": 1, "a": 1}')), max_size=9))
def test_any_bytes_are_read(path, parts):
    path.write_bytes(b"\n".join(parts))
    series, damaged = metric_lines.read(path)
    assert damaged >= 0 and all(len(s.steps) for s in series.values())
