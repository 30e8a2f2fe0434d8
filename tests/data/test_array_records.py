"""Pairs in ArrayRecord files."""

import concurrent.futures
import pickle

import msgpack
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from cloob_jax.data import array_records, augment, sources
from cloob_jax.errors import UserError


def triples(count, prefix=""):
    return [
        (f"{prefix}{n}", b"picture %d" % n * 999, f"größe {n}\nsecond")
        for n in range(count)
    ]


def write_maps(path, maps):
    """A file as its library and msgpack write it, without the package."""
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for content in maps:
        writer.write(content if isinstance(content, bytes) else msgpack.packb(content))
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path):
    """Two files of five and three records."""
    for number, count in enumerate((5, 3)):
        maps = [
            {"key": key, "image": image, "caption": caption, "more": 1}
            for key, image, caption in triples(count, f"{number}-")
        ]
        write_maps(tmp_path / f"x.array_record-{number:05d}-of-00002", maps)
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*.array_record*", "/x*-0000{0,1}-of-00002"])
def test_reads_what_is_there(folder, pattern):
    records = sources.build(f"{folder}{pattern}")
    expected = [*triples(5, "0-"), *triples(3, "1-")]
    assert [records[n] for n in range(len(records))] == [
        (image, caption.encode()) for _, image, caption in expected
    ]
    assert records.name(6) == ("x.array_record-00001-of-00002", "1-1")
    assert not records.faults
    with pytest.raises(IndexError):
        records[8]


def test_threads_and_processes_share_it(folder):
    records = sources.build(str(folder))
    expected = [records[n] for n in range(8)]
    copy = pickle.loads(pickle.dumps(records))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(9):
            assert list(pool.map(copy.__getitem__, range(8))) == expected


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.array_record"
    assert array_records.write(path, iter(triples(4))) == 4
    reader = ArrayRecordReader(str(path))
    assert "group_size:1" in reader.writer_options_string()
    assert [msgpack.unpackb(r)["key"] for r in reader.read_all()] == list("0123")
    reader.close()
    before = sources.build(str(path)).fingerprint
    array_records.write(path, triples(5))
    assert sources.build(str(path)).fingerprint != before


def test_half_a_file_is_never_seen(tmp_path):
    def fails():
        yield from triples(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        array_records.write(tmp_path / "a.array_record", fails())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        UserError, match=r"a\.array_record cannot be written: .*No such"
    ):
        array_records.write(tmp_path / "b/a.array_record", triples(1))


def test_a_damaged_record_is_bad_and_the_others_are_not(folder):
    path = folder / "x.array_record-00000-of-00002"
    content = bytearray(path.read_bytes())
    content[content.index(b"picture 2") + 100] ^= 1
    path.write_bytes(content)
    records = sources.build(str(folder))
    with pytest.raises(augment.BadRecord, match="damaged record: Corrupted"):
        records[2]
    assert records.name(2) == (path.name, "record 2")
    assert [records[n][0][:9] for n in (1, 3)] == [b"picture 1", b"picture 3"]


def test_another_record_among_them_is_bad(tmp_path):
    good = {"key": "a", "image": b"b", "caption": "c"}
    others = [b"\xc1", {"key": "a"}, {**good, "image": "text"}, [1], b""]
    path = write_maps(tmp_path / "a.array_record", [good, *others])
    records = sources.build(str(path))
    for number in range(1, 1 + len(others)):
        with pytest.raises(augment.BadRecord, match="no msgpack map of key"):
            records[number]


def test_a_missing_file_is_a_fault(folder):
    (folder / "x.array_record-00000-of-00002").unlink()
    records = sources.build(str(folder))
    assert len(records) == 3
    [fault] = records.faults
    assert fault.shard == "x.array_record-00000-of-00002"
    assert fault.reason == "the file is missing"


@pytest.mark.parametrize("kept", [0, 20, 100_000, -1])
def test_a_truncated_file_is_named(folder, kept):
    path = folder / "x.array_record-00001-of-00002"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        UserError, match=r"00001-of-00002: not a whole ArrayRecord file"
    ):
        sources.build(str(folder))


def test_other_mistakes_are_named(tmp_path):
    path = write_maps(tmp_path / "a.array_record", [])
    with pytest.raises(UserError, match=r"a\.array_record: no record in 1 file"):
        sources.build(str(path))
    write_maps(path, [b"example"])
    with pytest.raises(UserError, match="no msgpack map.*array_records.write"):
        sources.build(str(tmp_path))
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=f"TFDS data set: give tfds:{tmp_path}:SPLIT"):
        sources.build(str(tmp_path))
