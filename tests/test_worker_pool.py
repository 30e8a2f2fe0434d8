"""Work in several processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloob_jax import worker_pool


def work(item, report):
    report(("began", item))
    if item == "fail":
        raise ValueError("no")
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "leave":
        os._exit(7)
    return item * 2, os.getpid()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_every_item_is_worked_on_once(num_processes):
    reports = []
    results = dict(worker_pool.results(work, range(9), num_processes, reports.append))
    assert {item: double for item, (double, _) in results.items()} == {
        item: 2 * item for item in range(9)
    }
    assert sorted(reports) == [("began", item) for item in range(9)]
    others = {process for _, process in results.values()} - {os.getpid()}
    assert len(others) == (0 if num_processes == 1 else num_processes)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("fail", ValueError, "^no"),
        ("die", worker_pool.Died, "worked on die was killed by SIGKILL"),
        ("leave", worker_pool.Died, "worked on leave ended with status 7"),
    ],
)
def test_what_ends_a_worker_ends_all(item, error, message):
    with pytest.raises(error, match=message):
        list(worker_pool.results(work, ["a", item, "b"], 2))
    assert not multiprocessing.active_children()


def sleep(item, report):
    report(item)
    time.sleep(600)


def test_workers_do_not_outlive_a_process_that_is_killed():
    code = (
        "import test_worker_pool as t\n"
        "report = lambda item: print(item, flush=True)\n"
        "list(t.worker_pool.results(t.sleep, [1, 2], 2, report))"
    )
    root = Path(worker_pool.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}:{root}/tests"},
    )
    assert process.stdout.readline() and process.stdout.readline()
    process.kill()
    # The pipe closes when the last of the processes has gone.
    process.communicate(timeout=30)
