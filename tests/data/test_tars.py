"""Random access into tars, against Python's own tarfile."""

import concurrent.futures
import gzip
import io
import pickle
import tarfile
from pathlib import Path

import pytest
from full_disk import small_files_only

from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError

_FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}
_LONG = "a-folder-with-a-long-name/" * 6  # 156 characters: past the 100 of the header


def write_tar(path, members, tar_format=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pairs(count, prefix=""):
    members = []
    for number in range(count):
        members.append((f"{prefix}{number:06d}.jpg", f"image {number}".encode() * 99))
        members.append((f"{prefix}{number:06d}.json", b"{}"))
        members.append((f"{prefix}{number:06d}.txt", f"caption {number}".encode()))
    return members


@pytest.mark.parametrize("tar_format", _FORMATS)
@pytest.mark.parametrize("prefix", ["", "folder/", _LONG, "größe-"])
def test_reads_what_tarfile_reads(tmp_path, tar_format, prefix):
    path = write_tar(tmp_path / "0.tar", pairs(5, prefix), _FORMATS[tar_format])
    with tarfile.open(path) as tar:
        contents = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    records = TarRecords([path], "txt")
    assert len(records) == 5 and not records.faults
    for number in range(5):
        key = f"{prefix}{number:06d}"
        assert records[number] == (contents[f"{key}.jpg"], contents[f"{key}.txt"])


@pytest.mark.parametrize("tar_format", ["gnu", "pax"])
def test_long_names_are_told_whole(tmp_path, tar_format):
    path = write_tar(tmp_path / "0.tar", pairs(3, _LONG), _FORMATS[tar_format])
    assert TarRecords([path], "txt").name(1) == ("0.tar", f"{_LONG}000001")


def test_faults_are_found_again_by_another_path(tmp_path, monkeypatch):
    write_tar(tmp_path / "0.tar", pairs(3)[:-1])
    first = TarRecords([tmp_path / "0.tar"], "txt")
    monkeypatch.chdir(tmp_path)
    assert TarRecords([Path("0.tar")], "txt").faults == first.faults != []


def test_shards_of_one_name_are_told_apart(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    # Without the last text, so that each has a fault too.
    shards = [write_tar(tmp_path / folder / "0.tar", pairs(3)[:8]) for folder in "ab"]
    records = TarRecords(shards, "txt")
    assert [records.name(i)[0] for i in (0, 2)] == ["a/0.tar", "b/0.tar"]
    assert {fault.shard for fault in records.faults} == {"b/0.tar", "a/0.tar"}


def test_a_damaged_index_is_made_anew(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "0.tar", pairs(3))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    TarRecords([path], "txt")
    for suffix in (".json", ".npy"):
        [file] = (tmp_path / "cache").rglob(f"*{suffix}")
        file.write_bytes(b"")
        assert len(TarRecords([path], "txt")) == 3


def test_a_broken_pax_header_is_a_fault(tmp_path):
    path = write_tar(tmp_path / "0.tar", pairs(3, _LONG), tarfile.PAX_FORMAT)
    content = bytearray(path.read_bytes())
    second = content.index(b"path=", content.index(b"path=") + 1)
    content[second - 4 : second] = b"abc "  # the length of the record
    path.write_bytes(content)
    with pytest.raises(UserError, match="a broken pax header"):
        TarRecords([path], "txt")


def test_names_records_and_keeps_the_order_of_shards(tmp_path):
    shards = [write_tar(tmp_path / f"{n}.tar", pairs(3, f"s{n}-")) for n in (0, 1)]
    records = TarRecords(shards, "txt")
    assert [records.name(i) for i in (0, 2, 3)] == [
        ("0.tar", "s0-000000"),
        ("0.tar", "s0-000002"),
        ("1.tar", "s1-000000"),
    ]


def test_members_of_a_record_need_not_be_neighbours(tmp_path):
    jumbled = sorted(pairs(4), key=lambda member: member[0].rpartition(".")[2])
    records = TarRecords([write_tar(tmp_path / "0.tar", jumbled)], "txt")
    assert records[3][1] == b"caption 3" and records[3][0].startswith(b"image 3")


def test_incomplete_records_are_faults_by_key(tmp_path):
    members = [m for m in pairs(4) if m[0] not in ("000001.txt", "000002.jpg")]
    records = TarRecords([write_tar(tmp_path / "0.tar", members)], "txt")
    assert len(records) == 2
    assert [(f.key, f.reason) for f in records.faults] == [
        ("000001", "no txt member"),
        ("000002", "no image member"),
    ]


# A record takes 3,584 bytes: three headers, two blocks of image, one each of the rest.
@pytest.mark.parametrize(
    ("cut", "kept"), [(700, 0), (2600, 0), (6000, 1), (9000, 2), (-10240, 3)]
)
def test_a_truncated_tar_keeps_its_complete_records(tmp_path, cut, kept):
    whole = write_tar(tmp_path / "whole.tar", pairs(3)).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512  # where the end-of-archive marker begins
    cut = cut if cut > 0 else end
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:cut])
    if not kept:
        with pytest.raises(UserError, match=r"cut\.tar: no record.*truncated"):
            TarRecords([path], "txt")
        return
    records = TarRecords([path], "txt")
    assert len(records) == kept
    assert any("truncated" in fault.reason for fault in records.faults)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>404 not found</html>" * 99, "no tar header at byte 0"),
        (b"", "no record with an image"),
        (gzip.compress(b"x" * 9999), "compressed.*gunzip"),
    ],
    ids=["html", "empty", "gzip"],
)
def test_what_is_no_tar_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "odd.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"odd\.tar.*{message}"):
        TarRecords([path], "txt")


def test_index_is_built_once_and_follows_a_changed_tar(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "0.tar", pairs(3))
    first = TarRecords([path], "txt")
    # A second scan would fail.
    monkeypatch.setattr("cloob_jax.data.tar_index._scan", None)
    assert TarRecords([path], "txt").fingerprint == first.fingerprint
    monkeypatch.undo()
    write_tar(path, pairs(4))
    second = TarRecords([path], "txt")
    assert len(second) == 4 and second.fingerprint != first.fingerprint


def test_a_full_disk_is_told_and_leaves_no_half_of_an_index(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "0.tar", pairs(9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with small_files_only(200):
        with pytest.raises(UserError, match="index of the data needs room"):
            TarRecords([path], "txt")
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert left == [] and len(TarRecords([path], "txt")) == 9


def test_fingerprint_does_not_depend_on_the_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "0.tar", pairs(3))
    a, b = (TarRecords([tmp_path / f / "0.tar"], "txt") for f in ("a", "b"))
    assert a.fingerprint == b.fingerprint


def test_threads_and_processes_share_it(tmp_path):
    shards = [write_tar(tmp_path / f"{n}.tar", pairs(20, f"{n}-")) for n in range(8)]
    records = TarRecords(shards, "txt")
    expected = [records[i] for i in range(len(records))]
    assert len(pickle.dumps(records)) < 4096  # paths, not the index
    copy = pickle.loads(pickle.dumps(records))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(copy.__getitem__, range(len(copy)))) == expected


def test_many_shards_are_indexed_in_processes(tmp_path, monkeypatch):
    shards = [write_tar(tmp_path / f"{n:03d}.tar", pairs(n % 3 + 1)) for n in range(7)]
    reports = []
    expected = TarRecords(shards[:6], "txt")
    monkeypatch.setattr("cloob_jax.data.tar_index._MANY", 7)
    monkeypatch.setattr("cloob_jax.data.tar_index._NUM_THREADS", None)
    monkeypatch.setattr("cloob_jax.worker_pool.num_cores", lambda: 2)
    records = TarRecords(shards, "txt", lambda *done: reports.append(done))
    assert reports == [(n, 7) for n in range(1, 8)]
    assert [records[n] for n in range(12)] == [expected[n] for n in range(12)]


@pytest.mark.parametrize("kind", ["header", "pax"])
def test_a_size_that_would_lead_back_is_a_fault(tmp_path, kind):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in pairs(2):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if kind == "pax" and name == "000001.txt":
                info.pax_headers["size"] = "-512"
            tar.addfile(info, io.BytesIO(content))
    content = bytearray(path.read_bytes())
    if kind == "header":
        at = content.index(b"000001.txt")
        content[at + 124 : at + 136] = b"-0000001000\0"
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
        path.write_bytes(content)
    records = TarRecords([path], "txt")
    assert len(records) == 1
    assert any("size of -512 bytes" in fault.reason for fault in records.faults)
