"""Pairs in Parquet files, as pyarrow writes them."""

import concurrent.futures
import pickle
import sys

import pytest

from cloob_jax.data import augment, parquet, sources
from cloob_jax.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, columns, group=4, **options):
    pq.write_table(pa.table(columns), path, row_group_size=group, **options)
    return path


def picture(number):
    return b"picture %d" % number * 50


def img2dataset(path, first, count, failed=()):
    """The columns that matter of its parquet output; failed downloads stay as rows."""
    numbers = range(first, first + count)
    images = [None if n in failed else picture(n) for n in numbers]
    captions = [f"größe {n}" for n in numbers]
    columns = {"caption": captions, "key": [f"{n:09d}" for n in numbers]}
    return write(path, {**columns, "jpg": pa.array(images, pa.binary())})


@pytest.mark.parametrize("pattern", ["", "/*.parquet", "/{1,02}.parquet"])
def test_reads_img2dataset_without_failed_downloads(tmp_path, pattern):
    failed = {2, 4, 5, 6, 7, 12}
    img2dataset(tmp_path / "1.parquet", 0, 10, failed)
    img2dataset(tmp_path / "02.parquet", 10, 5, failed)
    records = sources.build(f"{tmp_path}{pattern}")
    kept = [number for number in range(15) if number not in failed]
    assert [records[n] for n in range(len(records))] == [
        (picture(n), f"größe {n}".encode()) for n in kept
    ]
    assert records.name(3) == ("1.parquet", "row 8")
    assert records.name(7) == ("02.parquet", "row 3")
    assert [(f.shard, f.reason) for f in records.faults] == [
        ("1.parquet", "5 rows without an image"),
        ("02.parquet", "1 rows without an image"),
    ]
    with pytest.raises(IndexError):
        records[9]


@pytest.mark.parametrize("caption", ["caption", "text", "title"])
def test_reads_hugging_faces_images(tmp_path, caption):
    (tmp_path / "a.jpg").write_bytes(b"by path")
    images = [
        {"bytes": b"0", "path": None},
        {"bytes": None, "path": "a.jpg"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"4", "path": "b.jpg"},
    ]
    texts = [["one", "two\nlines"], ["three"], ["x"], ["y"], None]
    path = write(tmp_path / "a.parquet", {"image": images, caption: texts})
    records = sources.build(str(path))
    assert records[0] == (b"0", b"one\ntwo lines")
    assert records[1] == (b"by path", b"three")
    assert records[4] == (b"4", b"")
    for number in (2, 3):
        with pytest.raises(augment.BadRecord, match="missing image"):
            records[number]


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_columns_of_other_names_and_types(tmp_path, kind):
    captions = pa.array(["a\nb", "c"])
    captions = (
        captions.dictionary_encode()
        if kind == "dictionary"
        else captions.cast(getattr(pa, kind)())
    )
    images = pa.array([b"0", b"1"], pa.large_binary())
    path = write(tmp_path / "a.parquet", {"picture": images, "alt": captions})
    records = sources.build(str(path), "picture,alt")
    assert [records[n] for n in (0, 1)] == [(b"0", b"a b"), (b"1", b"c")]


def test_few_row_groups_are_kept_and_each_is_read_once(tmp_path, monkeypatch):
    img2dataset(tmp_path / "a.parquet", 0, 40)
    monkeypatch.setattr(parquet, "_CACHE_BYTES", 3 * 4 * 600)
    records = sources.build(str(tmp_path))
    copy = pickle.loads(pickle.dumps(records))
    assert len(pickle.dumps(records)) < 2000
    read, decode = [], copy._decode
    monkeypatch.setattr(
        copy._groups, "_make", lambda number: read.append(number) or decode(number)
    )
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(copy.__getitem__, list(range(4)) * 4))
            assert found == [records[n] for n in range(4)] * 4
        assert read == [0]
        found = list(pool.map(copy.__getitem__, range(40)))
    assert found == [records[n] for n in range(40)]
    assert len(copy._groups._kept) in (1, 2, 3)


def test_a_damaged_row_group_is_bad_and_the_others_are_not(tmp_path):
    path = img2dataset(tmp_path / "a.parquet", 0, 8)
    content = bytearray(path.read_bytes())
    place = pq.read_metadata(path).row_group(1).column(2).dictionary_page_offset
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    records = sources.build(str(tmp_path))
    assert records[3][0] == picture(3)
    for _ in range(2):
        with pytest.raises(augment.BadRecord, match="damaged record: row group 1"):
            records[5]
    assert records.name(5) == ("a.parquet", "row 5 or later")


def test_fingerprint_is_of_names_sizes_and_columns(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        img2dataset(tmp_path / folder / "0.parquet", 0, 8)
    a, b = (sources.build(str(tmp_path / folder)) for folder in "ab")
    other = sources.build(str(tmp_path / "a"), "jpg,key")
    assert a.fingerprint == b.fingerprint != other.fingerprint
    both = sources.build(f"{tmp_path}/*/0.parquet")
    assert both.name(8) == ("b/0.parquet", "row 0")


def test_mistakes_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    images, texts = [b"a"], ["b"]
    for columns, named, message in (
        (
            {"url": texts, "captions": texts},
            None,
            "no column jpg or png.*url, captions",
        ),
        ({"jpg": images, "capt": texts}, None, r"no column caption.*nearest is capt\)"),
        ({"jpg": images, "text": texts}, "jpg,alt", "no column alt with captions"),
        ({"jpg": [1], "text": texts}, None, "column jpg holds int64, not images"),
        (
            {"jpg": images, "text": [1.0]},
            None,
            "column text holds double, not captions",
        ),
        ({"jpg": [b"a"][:0], "text": texts[:0]}, None, "holds null, not images"),
        (
            {"jpg": pa.array([None], pa.binary()), "text": texts},
            None,
            "no row of 1 file",
        ),
    ):
        write(path, columns)
        with pytest.raises(UserError, match=rf"a\.parquet: .*{message}"):
            sources.build(str(path), named)
    for kept in (0, 30, -1):
        img2dataset(path, 0, 9)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
            sources.build(str(path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'cloob_jax\[parquet\]'"):
        sources.build(str(path))
