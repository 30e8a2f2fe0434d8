"""Runs `python -m cloob_jax.prepare` as a user does."""

import signal
import subprocess
import sys
import time

import pytest
from test_shrinking import encode, picture
from test_tars import write_tar

from cloob_jax.data.array_records import write
from cloob_jax.prepare import main


def command(*arguments):
    return [sys.executable, "-m", "cloob_jax.prepare", *map(str, arguments)]


def prepare(*arguments, cwd):
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_index_tells_how_many_records_there_are(tmp_path):
    write(tmp_path / "a.array_record", [("a", b"x", "a cat"), ("b", b"y", "a dog")])
    done = prepare("index", tmp_path / "a.array_record", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 records, fingerprint " in done.stdout


def test_check_ends_with_1_where_something_is_to_be_mended(tmp_path):
    write(tmp_path / "a.array_record", [("a", b"no image", "a cat")])
    done = prepare("check", "a.array_record", "--seconds=0.01", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "a.array_record: 1 records" in done.stdout
    assert "1. not an image: 1 of 1 (100 %) records" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "nothing.tar"], "SOURCE=nothing.tar: no such file"),
        (["index", "nothing.tar"], "SOURCE=nothing.tar: no such file"),
        (["index"], "required: SOURCE"),
        (["indx", "a"], "invalid choice: 'indx'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, expected):
    done = prepare(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_a_killed_conversion_goes_on_to_the_very_same_bytes(tmp_path):
    members = []
    image = encode(picture(600, 450))  # which takes some time
    for number in range(120):
        end = 999 if number % 25 == 7 else None
        members += [(f"{number}.jpg", image[:end]), (f"{number}.txt", b"a picture")]
    write_tar(tmp_path / "0.tar", members)
    settings = ["--resize=300", "--shard_size=4"]
    killed = "arrayrecord", "0.tar", "killed", "--processes=3", *settings
    for number, status in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        before = set((tmp_path / "killed").glob(".shards/*"))
        process = subprocess.Popen(
            command(*killed),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None:
            if set((tmp_path / "killed").glob(".shards/*.json")) - before:
                break
            time.sleep(0.01)
        process.send_signal(number)
        # The pipe closes when the last of the processes has gone.
        _, said = process.communicate(timeout=60)
        assert process.returncode == status
        if status == 130:
            assert said.endswith("the same command goes on\n")
            assert not list((tmp_path / "killed").glob(".*.partial"))
    num_files = len(list((tmp_path / "killed").glob("*.array_record*")))
    assert 2 <= num_files < 30 and not (tmp_path / "killed/dropped.jsonl").exists()
    done = prepare(*killed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "115 of 120 records in 30 files" in done.stdout
    whole = str(tmp_path / "0.tar"), str(tmp_path / "whole")
    main(["arrayrecord", *whole, "--processes=1", *settings])
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
