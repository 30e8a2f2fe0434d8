"""A run directory in a bucket that fsspec keeps in memory."""

import json
import os
import threading
import time
from pathlib import Path

import fsspec
import pytest

from cloob_jax import bucket
from cloob_jax.bucket import Mirror
from cloob_jax.errors import Outage, UserError

_URL = "memory://bucket/run"


@pytest.fixture
def there(monkeypatch):
    """The file system of the bucket, emptied."""
    monkeypatch.setattr(bucket, "_PERIOD_SECONDS", 0.1)
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read(files, name):
    path = f"/bucket/run/{name}"
    return files.cat_file(path) if files.exists(path) else None


def test_what_is_written_here_is_soon_there_and_comes_back(tmp_path, there):
    here = tmp_path / "here"
    with Mirror(_URL, here, True):
        (here / "log.txt").write_text("one")
        (here / "eval" / "4").mkdir(parents=True)
        (here / "eval" / "4" / "a.json").write_text("{}")
        until(lambda: read(there, "eval/4/a.json") == b"{}")
        (here / "log.txt").write_text("one two")
        (here / ".half-written").write_text("x")
        until(lambda: read(there, "log.txt") == b"one two")
        (here / "last").write_text("at the end")
    assert read(there, "last") == b"at the end" and not here.exists()
    assert read(there, ".half-written") is None and read(there, ".lease.json") is None
    there.pipe_file("/bucket/run/checkpoints/7/params", b"large")
    with Mirror(_URL, here, True):
        found = {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()}
        assert found == {"log.txt", "eval/4/a.json", "last"}
        assert (here / "log.txt").read_text() == "one two"


def test_what_is_written_during_a_copy_comes_with_the_last(
    tmp_path, there, monkeypatch
):
    started, released, put = threading.Event(), threading.Event(), there.put_file

    def slow(here, name):
        started.set()
        assert released.wait(20)
        put(here, name)

    monkeypatch.setattr(there, "put_file", slow)
    with Mirror(_URL, tmp_path / "here", True):
        (tmp_path / "here" / "first").write_text("1")
        assert started.wait(20)
        (tmp_path / "here" / "last").write_text("2")
        threading.Timer(0.5, released.set).start()
    assert read(there, "first") == b"1" and read(there, "last") == b"2"


def test_what_cannot_be_copied_at_the_end_stays_here(
    tmp_path, there, monkeypatch, capsys
):
    def fail(here, name):
        raise OSError("503 try later")

    here = tmp_path / "here"
    with Mirror(_URL, here, True):
        monkeypatch.setattr(there, "put_file", fail)
        (here / "last").write_text("2")
    assert (here / "last").read_text() == "2"
    assert f"{_URL}: 503 try later; see {here}" in capsys.readouterr().err


def test_only_what_has_changed_is_copied_again(tmp_path, there, monkeypatch):
    with Mirror(_URL, tmp_path / "here", True):
        (tmp_path / "here" / "log.txt").write_text("one")
    sent, put_file = [], type(there).put_file

    def count(self, path, name, **options):
        sent.append(name.rpartition("/")[2])
        return put_file(self, path, name, **options)

    monkeypatch.setattr(type(there), "put_file", count)
    with Mirror(_URL, tmp_path / "here", True) as mirror:
        (tmp_path / "here" / "new").write_text("two")
        for _ in range(3):
            mirror.soon()
            time.sleep(0.1)
    assert sent == ["new"]


def test_other_processes_bring_nothing_and_copy_their_own(tmp_path, there):
    there.pipe_file("/bucket/run/log.txt", b"leader's")
    with Mirror(_URL, tmp_path / "second", False):
        assert list((tmp_path / "second").iterdir()) == []
        (tmp_path / "second" / "stacks").mkdir()
        (tmp_path / "second" / "stacks" / "process_1.txt").write_text("x")
    assert read(there, "stacks/process_1.txt") == b"x"
    assert read(there, "log.txt") == b"leader's" and read(there, ".lease.json") is None


def lease(there, **changes):
    found = {"run": "other", "beat": 1, "host": "elsewhere", "process": 1} | changes
    there.pipe_file("/bucket/run/.lease.json", json.dumps(found).encode())


def test_a_run_that_gives_signs_of_life_is_left_alone(tmp_path, there):
    with Mirror(_URL, tmp_path / "first", True):
        with pytest.raises(Outage, match="another run is training in it, on "):
            with Mirror(_URL, tmp_path / "second", True):
                pass
    with Mirror(_URL, tmp_path / "second", True):
        pass  # the first has ended


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{"])
def test_a_run_that_gives_none_is_followed(tmp_path, there, content):
    lease(there)
    if content is not None:
        there.pipe_file("/bucket/run/.lease.json", content)
    began = time.monotonic()
    with Mirror(_URL, tmp_path / "here", True):
        waited = time.monotonic() - began
        assert json.loads(read(there, ".lease.json"))["process"] == os.getpid()
    assert (waited > 0.24) == (content is None)  # two and a half periods


def test_a_process_of_this_machine_that_is_dead_is_not_waited_for(tmp_path, there):
    mirror = Mirror(_URL, tmp_path / "here", True)
    assert bucket._has_died({"host": os.uname().nodename, "process": 2**22 + 1})
    assert not bucket._has_died({"host": os.uname().nodename, "process": os.getpid()})
    assert not bucket._has_died({"host": "elsewhere", "process": 2**22 + 1})
    del mirror


def test_a_bucket_that_fails_is_told_once_and_tried_again(
    tmp_path, there, monkeypatch, capsys
):
    put_file, failures = type(there).put_file, []

    def fail(self, path, name, **options):
        if len(failures) < 3:
            failures.append(name)
            raise OSError("503 Service Unavailable")
        return put_file(self, path, name, **options)

    monkeypatch.setattr(type(there), "put_file", fail)
    with Mirror(_URL, tmp_path / "here", True):
        (tmp_path / "here" / "log.txt").write_text("one")
        until(lambda: read(there, "log.txt") == b"one")
    errors = capsys.readouterr().err
    assert errors.count("503 Service Unavailable; trying again") == 1


def test_paths_that_were_urls():
    assert bucket.url_of(Path("gs://bucket/run")) == "gs://bucket/run"
    assert bucket.url_of(Path("gs://b/a/run/")) == "gs://b/a/run"
    assert bucket.url_of(Path("/data/run")) is None
    assert bucket.url_of(Path("runs/a")) is None and bucket.url_of(Path("a:b")) is None
    with pytest.raises(UserError, match="s3://b/run: expected a folder or gs://"):
        bucket.url_of(Path("s3://b/run"))


def test_a_library_that_lacks_is_named(tmp_path, monkeypatch):
    def lack(url):
        raise ImportError("no gcsfs (pip install 'cloob_jax[gs]')")

    monkeypatch.setattr("cloob_jax.filesystems.open_url", lack)
    with pytest.raises(UserError, match=r"--workdir=gs://b/r: no gcsfs \(pip install"):
        Mirror("gs://b/r", tmp_path / "here", True)
