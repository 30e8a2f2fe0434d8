"""Folders of pictures with captions beside them."""

import os
import pickle

import pytest
from test_tars import pairs, write_tar

from cloob_jax.data import augment, folders, sources


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.fixture
def folder(tmp_path):
    names = ["b.jpg", "b.txt", "z/a.b.JPG", "z/a.b.txt", "a/x/größe.webp"]
    names += ["a/x/größe.txt", "a/lost.png", "a/only.txt", "b.json", "a/stats.parquet"]
    names += [".hidden/b.jpg", ".hidden/b.txt", "._b.jpg", "._b.txt", "00000.parquet"]
    fill(tmp_path, names)
    return tmp_path


def test_reads_pairs_wherever_they_are(folder):
    records = sources.build(str(folder))
    names = ["b.jpg", "a/x/größe.webp", "z/a.b.JPG"]
    assert [records.name(n) for n in range(3)] == [(str(folder), n) for n in names]
    texts = [os.path.splitext(name)[0] + ".txt" for name in names]
    assert [records[n] for n in range(len(records))] == [
        (name.encode(), text.encode()) for name, text in zip(names, texts, strict=True)
    ]
    assert [(f.key, f.reason) for f in records.faults] == [
        ("a/lost.png", "no .txt beside it")
    ]
    with pytest.raises(IndexError):
        records[3]


def test_a_name_may_be_any_bytes(tmp_path):
    for extension in (b".jpg", b".txt"):
        with open(os.fsencode(tmp_path) + b"/\xff\n" + extension, "wb") as file:
            file.write(extension)
    assert sources.build(str(tmp_path))[0] == (b".jpg", b".txt")


def test_what_went_since_is_a_bad_record(folder):
    records = sources.build(str(folder))
    (folder / "b.jpg").unlink()
    (folder / "z/a.b.txt").unlink()
    for number, name in ((0, r"b\.jpg"), (2, r"z/a\.b\.txt")):
        with pytest.raises(augment.BadRecord, match=f"{name}: No such file"):
            records[number]


def test_names_are_shared_by_processes_and_tell_the_data(folder, tmp_path_factory):
    records = sources.build(str(folder))
    pickled = pickle.dumps(records)
    copy = pickle.loads(pickled)
    assert copy[2] == records[2] and len(pickled) < 1000
    other = tmp_path_factory.mktemp("other")
    fill(other, ["b.jpg", "b.txt", "z/a.b.JPG", "z/a.b.txt", "a/x/größe.webp"])
    fill(other, ["a/x/größe.txt"])
    assert sources.build(str(other)).fingerprint == records.fingerprint
    fill(other, ["c.jpg", "c.txt"])
    assert sources.build(str(other)).fingerprint != records.fingerprint


def test_tars_are_taken_before_pictures(folder):
    write_tar(folder / "0.tar", pairs(2))
    assert len(sources.build(str(folder))) == 2


def test_a_folder_that_cannot_be_listed_is_a_fault(folder, monkeypatch):
    walk = os.walk

    def partly(top, onerror=None):
        yield from walk(top, onerror=onerror)
        if onerror:
            onerror(PermissionError(13, "Permission denied", f"{top}/closed"))

    monkeypatch.setattr(folders.os, "walk", partly)
    fault = sources.build(str(folder)).faults[-1]
    assert fault.key == f"{folder}/closed" and "Permission denied" in fault.reason
