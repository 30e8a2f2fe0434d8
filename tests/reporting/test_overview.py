"""Runs in a table, and what their configs differ in."""

from pathlib import Path

import pytest
import run_folder
from test_markup import Seen

from cloob_jax.reporting import overview, reading
from cloob_jax.reporting.reading import Run
from cloob_jax.sessions import Session


def test_a_run_is_a_row(tmp_path):
    [run] = reading.read_all([run_folder.write(tmp_path / "mine")])
    texts = Seen(overview.runs_table([run])).texts
    # 600 of 800 seconds are steps, a sixth of the first 600 was redone; 200 were down.
    assert texts[10:20] == [
        *("mine", "RN-tiny", "cloob", "finished", "300 of 300", "9,600"),
        *("0.5000", "200", "5.0 %", "61.1 %"),
    ]


def test_a_run_of_which_little_is_known():
    texts = Seen(overview.runs_table([Run("new", Path())])).texts
    assert texts[10:20] == ["new", "-", "-", "no metrics yet", *6 * "-"]


@pytest.mark.parametrize(
    ("ended", "message", "expected"),
    [
        (None, "", "running or killed, last sign 2023-11-14 22:13 UTC"),
        ("stopped", "", "stopped"),
        ("failed", "the disk is full", "failed: the disk is full"),
        ("failed", "x" * 500, "failed: " + "x" * 152 + "..."),
    ],
)
def test_states(ended, message, expected):
    session = Session(1, 1.7e9 - 100, 1.7e9, 0, 5, ended=ended, message=message)
    assert overview.state(Run("a", Path(), sessions=[session])) == expected


def test_without_sessions_the_steps_tell(tmp_path):
    path = run_folder.write(tmp_path / "mine")
    (path / "sessions.json").unlink()
    [run] = reading.read_all([path])
    assert overview.state(run) == "finished"
    run.config["total_steps"] = 400
    assert overview.state(run) == "not finished"


def test_only_fields_that_differ_are_shown_at_once():
    configs = [
        {"a": 1, "b": None, "c": "x"},
        {"a": 1, "b": 2.5, "c": "x", "d": True},
        {},  # one that could not be read says nothing
    ]
    runs = [Run(name, Path(), config=c) for name, c in zip("pqr", configs, strict=True)]
    shown, folded = overview.config(runs).split("<details>")
    header = ["field", "p", "q"]
    assert Seen(shown).texts == [*header, "b", "null", "2.5", "d", "-", "true"]
    assert Seen(folded).texts[1:] == ["field", "value", "a", "1", "c", "x"]


def test_equal_configs_and_none():
    runs = [Run(name, Path(), config={"a": 1}) for name in "pq"]
    assert "All fields are the same." in overview.config(runs)
    assert overview.config([Run("p", Path())]) == ""


def test_long_values_are_folded():
    page = overview.config([Run("p", Path(), config={"a": "x" * 1000})])
    assert page.count("<details>") == 2
    assert Seen(page).texts[-1] == "x" * 1000
