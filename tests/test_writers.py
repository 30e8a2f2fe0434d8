"""What a run leaves for people."""

import contextlib
import io
import json
import struct

import pytest
from full_disk import small_files_only
from tensorboardX.proto.event_pb2 import Event, SessionLog

from cloob_jax import writers
from cloob_jax.meter import Meter


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
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


def read_events(workdir):
    """TensorBoard's records: length, its checksum, an event, its checksum."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            [length] = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_events_are_on_disk_at_once_and_a_restart_hides_later_ones(tmp_path):
    killed = writers.MetricsWriter(tmp_path, 0)
    killed.write(10, 40, {"train/loss": 0.5})
    last = read_events(tmp_path)[-1]
    assert (last.step, last.summary.value[0].tag) == (10, "train/loss")
    assert last.summary.value[0].simple_value == 0.5
    killed.close()
    writers.MetricsWriter(tmp_path, 0).close()
    starts = [e for e in read_events(tmp_path) if e.HasField("session_log")]
    assert [(e.step, e.session_log.status) for e in starts] == [(1, SessionLog.START)]


def test_a_full_disk_is_an_error_and_no_hang(tmp_path):
    writer = writers.MetricsWriter(tmp_path, 0)
    with contextlib.closing(writer):
        with small_files_only(2000), pytest.raises(OSError):
            for step in range(99):
                writer.write(step, step, {f"train/{name}": 0.0 for name in range(20)})


def test_lines_that_are_no_json_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st{"step": 2}\n7\n\n{"step": 3}\n{"ste')
    assert writers.read_json_lines(path) == [{"step": 1}, {"step": 3}]


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


def test_a_terminal_that_went_away_ends_no_run(tmp_path, monkeypatch):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        log = writers.Log(tmp_path)
        log.line("one")
        log.progress("two", keep=True)
        log.close()
        writers.warn("three")
        writers.Progress().line("four")
    kept = (tmp_path / "log.txt").read_text().splitlines()
    assert [row.split(" ", 2)[2] for row in kept] == ["one", "two"]


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
    meter.count()  # at 4: the step that was compiled, which says nothing
    assert meter.seconds_left(10) is None
    meter.count()  # at 5
    assert meter.seconds_left(10) == 10
    assert meter.read() == {  # at 8
        "samples_per_second": 2 * 16 / 8,
        "data_wait_fraction": 2 / 8,
    }
