"""Tables of paths and captions, against Python's csv module."""

import concurrent.futures
import csv
import io
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloob_jax.data import augment, csv_rows, sources
from cloob_jax.data.csv_rows import CsvRecords
from cloob_jax.errors import UserError

_FIELD = "config.data.train"
_CAPTIONS = ['plain, with "quotes"', "two\nlines", "tab\tand; semicolon", "größe 猫"]


def write_table(folder, separator=",", name="table.csv", **options):
    """A table as the csv module writes it, and its pictures."""
    (folder / "pictures").mkdir(exist_ok=True)
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, **options)
        writer.writerow(["id", "filepath", "title"])
        for number, caption in enumerate(_CAPTIONS):
            path = f"pictures/{number}.jpg"
            (folder / path).write_bytes(b"picture %d" % number)
            writer.writerow([number, path, caption])
    return folder / name


def expected():
    return [
        (b"picture %d" % number, " ".join(caption.split()).encode())
        for number, caption in enumerate(_CAPTIONS)
    ]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_what_csv_writes(tmp_path, separator, quoting, end):
    path = write_table(tmp_path, separator, quoting=quoting, lineterminator=end)
    records = sources.build(str(path))
    assert [records[number] for number in range(len(records))] == expected()
    assert records.name(2) == ("table.csv", "pictures/2.jpg")


# Quotes may stand within fields, open them, be doubled, or be followed by more.
_FIELDS = st.text(st.sampled_from('a",\n é'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_FIELDS, _FIELDS), min_size=1, max_size=9),
    st.sampled_from(["", "\n", "\r\n"]),
)
def test_rows_begin_where_csv_begins_them(tmp_path_factory, rows, raw):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    lines = io.StringIO(newline="")
    if raw:
        lines.write(raw.join(f"{a},{b}" if a or b else "" for a, b in rows))
    else:
        csv.writer(lines).writerows(rows)
    text = lines.getvalue()
    path.write_text(text, encoding="utf-8", newline="")
    read = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    # Blocks of a few bytes, so that every kind of place is cut.
    for block in (7, 1 << 24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_rows, "_BLOCK", block)
            try:
                starts, _ = csv_rows._scan(path, ",")
            except ValueError as error:
                assert raw and "closed nowhere" in str(error)
                continue
        content = text.encode()
        pieces = [content[a:b] for a, b in zip(starts, starts[1:], strict=False)]
        assert [csv_rows._parse(p.decode(), ",") for p in pieces] == read


def test_columns_by_name_and_paths_from_the_root(tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"picture")
    table = tmp_path / "t.tsv"
    table.write_text(f"\ufeffcap tion\timage\nhello\t{picture}\n\n\n", encoding="utf-8")
    records = sources.build(str(table), "image, cap tion")
    assert len(records) == 1 and records[0] == (b"picture", b"hello")


def test_bad_rows_are_bad_records(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    os.mkfifo(tmp_path / "pipe")
    rows = [
        b"a.jpg,fine",
        b"b.jpg,missing",
        b"a.jpg",
        b"a.jpg,one,two",
        b"a.jpg,\xff",
        b",no path",
        b".,a folder",
        b"pipe,a pipe",
        b"a.jpg/b.jpg,below a file",
        b"x" * 300 + b",long",
        b"a\0b,zero",
    ]
    path = tmp_path / "t.csv"
    path.write_bytes(b"filepath,title\n" + b"\n".join(rows))
    records = sources.build(str(path))
    assert len(records) == len(rows) and records[0] == (b"picture", b"fine")
    reasons = {
        1: r"b\.jpg: No such file",
        2: "row has 1 columns, the first row 2",
        3: "row has 3 columns",
        4: r"not UTF-8 \(byte 6\)",
        5: "no path",
        6: "is no file",
        7: "pipe is no file",
        8: "Not a directory",
        9: "File name too long",
        10: "no path",
    }
    for record, reason in reasons.items():
        with pytest.raises(augment.BadRecord, match=reason):
            records[record]
    assert [records.name(n)[1] for n in (1, 2)] == ["b.jpg", "row 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file_path,title\na,b\n", r"no column filepath.*nearest is file_path.*IMAGE"),
        (b"pictures/0.jpg\ta cat\n", "no column filepath; the first row has to name"),
        (b"", "no column filepath.*has: none"),
        (b"filepath,title\n\n", "no row below the names"),
        (b'filepath,title\na,"b\nc,d\n', "quote at byte 17 is closed nowhere"),
        ("filepath,title\na,b\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"filepath,title\nhttp://a/b.jpg,a\n", "holds URLs; fetch.*img2dataset"),
        (b"\x89PNG" + bytes(2000), "no column filepath"),
    ],
)
def test_mistakes_are_named(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"^config\.data\.train=\S*t\.csv: .*{message}"
    ):
        sources.build(str(path))


def test_a_missing_column_that_was_asked_for(tmp_path):
    with pytest.raises(UserError, match="no column caption.*id, filepath, title"):
        sources.build(str(write_table(tmp_path)), "filepath,caption")


def test_fingerprint_is_of_the_content_and_columns(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    a, b = (CsvRecords(_FIELD, write_table(tmp_path / folder)) for folder in "ab")
    assert a.fingerprint == b.fingerprint
    named = CsvRecords(_FIELD, tmp_path / "a/table.csv", ("filepath", "title"))
    other = CsvRecords(_FIELD, tmp_path / "a/table.csv", ("filepath", "id"))
    assert named.fingerprint == a.fingerprint != other.fingerprint
    path = tmp_path / "a/table.csv"
    path.write_text(path.read_text().replace("plain", "plane"))
    assert CsvRecords(_FIELD, path).fingerprint != a.fingerprint


def test_threads_and_processes_share_it(tmp_path, monkeypatch):
    records = sources.build(str(write_table(tmp_path)))
    pickled = pickle.dumps(records)
    assert len(pickled) < 1000
    monkeypatch.setattr(csv_rows, "_scan", None)  # a second scan would fail
    copy = pickle.loads(pickled)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            assert list(pool.map(copy.__getitem__, range(4))) == expected()
    assert sources.build(str(tmp_path / "table.csv")).fingerprint == copy.fingerprint
