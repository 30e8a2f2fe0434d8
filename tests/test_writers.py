"""What a run leaves for people."""

import io
import json

import pytest

from cloob_jax import writers
from cloob_jax.meter import Meter


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.0, "59s"),
        (200.0, "3m20s"),
        (18420.0, "5h07m"),
        (183600.0, "2d03h"),
    ],
)
def test_duration(seconds, text):
    assert writers.duration(seconds) == text


def test_a_table_aligns_names_left_and_figures_right():
    assert writers.table(["set", "top-1"], [["cars", "7.5"], ["a", "10.0"]]) == (
        "set   top-1\n----  -----\ncars    7.5\na      10.0"
    )


def test_metrics_go_on_after_the_step_of_the_checkpoint(tmp_path):
    first = writers.MetricsWriter(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, step * 4, {"train/loss": step / 7})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/lo')  # as a kill leaves it
    second = writers.MetricsWriter(tmp_path, 20)
    second.write(30, 120, {"train/loss": 5.0})
    second.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1] == {"step": 30, "examples_seen": 120, "train/loss": 5.0}
    assert lines[0]["train/loss"] == 10 / 7  # to the last bit


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_rewritten_on_a_terminal_and_plain_elsewhere(tmp_path, monkeypatch):
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr("sys.stderr", stream)
        log = writers.Log(tmp_path)
        log.progress("step 1", keep=False)
        log.progress("step 2", keep=True)
        log.line("done")
        log.close()
    assert pipe.getvalue() == "step 2\ndone\n"
    assert terminal.getvalue().startswith("\r\x1b[Kstep 1\r\x1b[Kstep 2")
    kept = (tmp_path / "log.txt").read_text().splitlines()
    assert [row.split(" ", 2)[2] for row in kept] == ["step 2", "done"] * 2


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "config.json"
    writers.write_json(path, {"a": 1})
    writers.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


def test_the_meter_counts_what_it_is_told(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 5.0, 8.0, 8.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    meter = Meter(batch_size=16)  # at 0
    with meter.waiting():  # from 1 to 3
        pass
    meter.count()  # at 4
    assert meter.seconds_left(10) == 40
    meter.count()  # at 5
    assert meter.read() == {  # at 8
        "samples_per_second": 2 * 16 / 8,
        "data_wait_fraction": 2 / 8,
    }
