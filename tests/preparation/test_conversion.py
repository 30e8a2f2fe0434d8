"""Sources written to ArrayRecord files, as `prepare arrayrecord` does it."""

import csv
import fcntl
import io
import json
import os
import signal
from pathlib import Path

import pytest
from full_disk import small_files_only
from test_pipeline import jpeg
from test_shrinking import encode, picture
from test_tars import write_tar

from cloob_jax import prepare
from cloob_jax.data import sources
from cloob_jax.preparation import converting, destination

_BAD = {3: "undecodable image", 4: "empty caption", 8: "not an image", 9: "bad caption"}
_COUNT = 12


def pair(number):
    """An image, and its captions as they stand in a file."""
    image, captions = jpeg(number), f"größe {number} \n\n second\n".encode()
    kind = _BAD.get(number)
    if kind == "undecodable image":
        image = image[:-200]
    if kind == "not an image":
        image = b"<html>" * 99
    if kind == "empty caption":
        captions = b" \n"
    if kind == "bad caption":
        captions = b"gr\xf6\xdfe"
    return image, captions


def good(number):
    return jpeg(number), f"größe {number}\nsecond".encode()


_GOOD = [number for number in range(_COUNT) if number not in _BAD]


@pytest.fixture
def tars(tmp_path):
    """Two shards; a record of the second lacks its caption."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for shard, numbers in enumerate((range(7), range(7, _COUNT))):
        members = []
        for number in numbers:
            image, captions = pair(number)
            members += [(f"k{number}.jpg", image), (f"k{number}.txt", captions)]
        write_tar(folder / f"{shard}.tar", members + [(f"lost{shard}.jpg", b"x")])
    return folder


def convert(*arguments):
    prepare.main(["arrayrecord", *map(str, arguments), "--processes=1"])


def refused(capsys, *arguments):
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as ended:
        prepare.main(list(map(str, arguments)))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def read(folder):
    records = sources.build(str(folder))
    return [(records.name(n)[1], *records[n]) for n in range(len(records))]


def tree(folder):
    files = filter(Path.is_file, folder.rglob("*"))
    return {file.relative_to(folder): file.read_bytes() for file in files}


@pytest.mark.parametrize("shard_size", [1, 5, 100])
def test_what_can_be_used_is_kept_in_order_and_the_rest_is_listed(
    tars, tmp_path, capsys, shard_size
):
    convert(tars, tmp_path / "out", f"--shard_size={shard_size}")
    assert read(tmp_path / "out") == [(f"k{n}", *good(n)) for n in _GOOD]
    # A file without a record stands for its place.
    num_files = -(-_COUNT // shard_size)
    assert len(list((tmp_path / "out").glob("*.array_record*"))) == num_files
    lines = (tmp_path / "out/dropped.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["shard"], row["key"], row["kind"]) for row in rows] == [
        ("0.tar", "lost0", "incomplete"),
        ("1.tar", "lost1", "incomplete"),
        *((f"{int(n > 6)}.tar", f"k{n}", kind) for n, kind in _BAD.items()),
    ]
    assert all(len(row["reason"]) > 10 for row in rows)
    said = capsys.readouterr()
    assert f"8 of 12 records in {num_files} files" in said.out
    assert "6 left out: 2 incomplete, 1 undecodable image" in said.out
    assert "12/12" in said.err


def test_tables_of_paths_and_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    with open(tmp_path / "pairs.tsv", "w", newline="") as file:
        rows = [["picture", "words"], *([f"{n}.jpg", f"größe {n}"] for n in range(4))]
        csv.writer(file, delimiter="\t").writerows(rows)
    convert(tmp_path / "pairs.tsv", tmp_path / "a", "--columns=picture,words")
    expected = [(f"{n}.jpg", jpeg(n), f"größe {n}".encode()) for n in range(4)]
    assert read(tmp_path / "a") == expected

    columns = {
        "jpg": pyarrow.array([jpeg(0), None, jpeg(1)], pyarrow.binary()),
        "caption": [["größe", "second"], ["none"], ["größe", "second"]],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "0.parquet")
    convert(tmp_path / "0.parquet", tmp_path / "b")
    assert read(tmp_path / "b") == [
        (f"row {row}", jpeg(n), "größe\nsecond".encode()) for n, row in ((0, 0), (1, 2))
    ]


def test_pictures_are_made_smaller(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    names = ["large", os.fsdecode(b"gr\xf6\xdfe")]  # a name that is no UTF-8
    small = encode(picture(48, 40))
    for name, content in zip(names, (encode(picture(90, 60)), small), strict=True):
        (tmp_path / f"in/{name}.jpg").write_bytes(content)
        (tmp_path / f"in/{name}.txt").write_text("words")
    convert(tmp_path / "in", tmp_path / "out", "--resize=40", "--quality=90")
    (first, kept, _), (second, shrunk, _) = read(tmp_path / "out")
    assert (first, second) == ("gr\ufffd\ufffde.jpg", "large.jpg")
    assert kept == small
    assert Image.open(io.BytesIO(shrunk)).size == (60, 40)


def test_it_goes_on_where_it_was(tars, tmp_path, monkeypatch):
    monkeypatch.setattr(destination, "_AHEAD", 2)
    out, again = tmp_path / "out", tmp_path / "again"
    convert(tars, again, "--shard_size=3")
    (out / ".shards").mkdir(parents=True)  # of a process that was killed at once
    convert(tars, out, "--shard_size=3")
    assert tree(out) == tree(again)
    zero, one, two, three = sorted(out.glob("*.array_record*"))
    zero.unlink()
    one.write_bytes(one.read_bytes()[:-1])
    (out / ".shards/00002.json").write_text('{"size": 1')
    (out / "dropped.jsonl").unlink()
    (out / f".{zero.name}.1234.partial").write_text("of a process that was killed")
    before = three.stat().st_mtime_ns, three.stat().st_ino
    convert(tars, out, "--shard_size=3")
    assert tree(out) == tree(again)
    assert (three.stat().st_mtime_ns, three.stat().st_ino) == before


def test_other_work_in_the_same_place_is_refused(tars, tmp_path, capsys):
    out = tmp_path / "out"
    convert(tars, out, "--shard_size=3")
    before = tree(out)
    capsys.readouterr()
    for arguments, message in [
        ([tars, out], "begun with other settings (shard_size=10000 instead of 3)"),
        ([tars, out, "--shard_size=3", "--resize=9"], "(resize=9 instead of None)"),
        ([tars / "0.tar", out, "--shard_size=3"], "is of another SOURCE"),
        ([tars, tars], "holds something else (prepare.json is missing)"),
        ([tars, tars / "0.tar"], "is a file"),
    ]:
        assert message in refused(capsys, "arrayrecord", *arguments)
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    line = refused(capsys, "arrayrecord", tars, out, "--shard_size=3")
    assert "another process writes there" in line
    os.close(descriptor)
    assert tree(out) == before
    (out / "prepare.json").write_text("[")
    assert "is damaged" in refused(capsys, "arrayrecord", tars, out, "--shard_size=3")


def test_a_full_disk_is_one_line_and_loses_nothing(tars, tmp_path, capsys):
    # Of which the second is larger than an ArrayRecord file begins.
    members = [("a.jpg", jpeg(0)), ("a.txt", b"a"), ("b.txt", b"b")]
    members += [("b.jpg", encode(picture(500, 500), quality=100, subsampling=0))]
    path = write_tar(tmp_path / "0.tar", members)
    arguments = ["arrayrecord", path, tmp_path / "out", "--shard_size=1"]
    with small_files_only(150_000):
        line = refused(capsys, *arguments, "--processes=1")
    assert "00001-of-00002 cannot be written" in line and "File too large" in line
    assert line.endswith("files that are whole stay, and the same command goes on")
    assert not list((tmp_path / "out").glob(".*.partial"))
    assert (tmp_path / "out/pairs.array_record-00000-of-00002").exists()
    convert(*arguments[1:])
    assert [key for key, _, _ in read(tmp_path / "out")] == ["a", "b"]


def deadly(key, image, captions):
    if key == "k7":
        os.kill(os.getpid(), signal.SIGKILL)
    return b"record"


def test_a_worker_that_dies_is_named(tars, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(converting, "_pack", deadly)
    arguments = "arrayrecord", tars, tmp_path / "out", "--shard_size=2"
    line = refused(capsys, *arguments, "--processes=2")
    name = "pairs.array_record-00003-of-00006"
    assert f"the process that wrote {name} was killed by SIGKILL" in line
    monkeypatch.undo()
    convert(*arguments[1:])


def test_nothing_that_can_be_used_is_told(tmp_path, capsys):
    path = write_tar(tmp_path / "0.tar", [("a.jpg", b"x" * 99), ("a.txt", b"a")])
    arguments = "arrayrecord", path, tmp_path / "out", "--processes=1"
    with pytest.raises(SystemExit) as ended:
        prepare.main(list(map(str, arguments)))
    assert ended.value.code == 2
    assert "no record can be used; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resize=0"], "--resize=0: expected 1 to 65535"),
        (["--resize=2", "--quality=101"], "--quality=101: expected 1 to 100"),
        (["--quality=90"], "--quality=90: only pictures that --resize makes"),
        (["--shard_size=0"], "--shard_size=0: expected"),
        (["--processes=x"], "argument --processes: invalid int value: 'x'"),
        (["--rezise=256"], "unrecognized arguments: --rezise=256"),
        (["--", "--runner=x"], "options after -- are for --beam"),
    ],
)
def test_a_mistake_is_one_line(tars, tmp_path, capsys, arguments, message):
    line = refused(capsys, "arrayrecord", tars, tmp_path / "out", *arguments)
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_bucket_needs_beam(tars, capsys):
    line = refused(capsys, "arrayrecord", tars, "gs://bucket/out")
    assert "only a local folder can be written without --beam" in line
