"""Runs `python -m cloob_jax.prepare` as a user does."""

import subprocess
import sys

import pytest

from cloob_jax.data.array_records import write


def prepare(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "cloob_jax.prepare", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
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
