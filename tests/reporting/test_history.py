"""What time went into, bad steps, last words."""

import re
from pathlib import Path

import numpy as np
import run_folder
from test_markup import Seen

from cloob_jax.reporting import history
from cloob_jax.reporting.reading import Run
from cloob_jax.sessions import Session


def sessions():
    rows = [(1, 0, 120, None), (2, 100, 300, "finished")]
    return [Session(**run_folder.session(*row)) for row in rows]


def test_a_bar_is_as_wide_as_the_shares():
    page = history.time_spent([Run("a", Path(), sessions=sessions())])
    places = re.findall(r'<rect x="([\d.]+)" width="([\d.]+)"', page)
    starts, widths = np.array(places, float).T
    np.testing.assert_allclose(starts, np.cumsum(widths) - widths, atol=0.02)
    # Of 1800 seconds: 1100 of steps, 100 of data, 200 of saving, 100 of starts, 100 of
    # steps that a kill undid (20 of 120), 200 without a process.
    np.testing.assert_allclose(
        widths, np.array([1100, 100, 200, 100, 100, 200]) / 18, atol=0.01
    )


def test_sessions_are_told_one_by_one():
    texts = Seen(history.time_spent([Run("a", Path(), sessions=sessions())])).texts
    rows = texts[texts.index("host") + 1 :]
    assert rows[:7] == [
        *("1", "2023-11-14 22:30 UTC", "13m20s", "0 to 120", "killed"),
        *("8 cpu in 2 processes", "host"),
    ]
    assert rows[11] == "finished"


def test_only_the_last_of_many_sessions():
    many = sessions() * 100
    page = history.time_spent([Run("a", Path(), sessions=many)])
    assert ": the last 100 of 200 sessions" in Seen(page).texts


def test_bad_steps_with_their_records():
    rows = [
        {
            "step": 12,
            "reason": "not finite",
            "metrics": {"loss": "nan", "grad_norm": "inf"},
            "records": ["0.tar 7", "1.tar 8"],
        },
        {"step": 13, "metrics": 3, "records": "x"},
    ]
    texts = Seen(history.bad_steps([Run("a", Path(), bad_steps=rows)])).texts
    assert texts[6:] == [
        *(
            "12",
            "not finite",
            "loss nan, grad_norm inf",
            "2 records",
            "0.tar 7\n1.tar 8",
        ),
        *("13", "-", "-", "-"),
    ]


def test_old_runs_have_none_of_it():
    runs = [Run("a", Path())]
    assert history.time_spent(runs) == history.bad_steps(runs) == ""
    assert history.logs(runs) == ""


def test_the_last_lines():
    page = history.logs([Run("a", Path(), log=["one", "<two>"])])
    assert Seen(page).texts == ["a", ": the last 2 lines", "one\n<two>"]
