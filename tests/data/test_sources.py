"""Patterns of shards, and what is said when they match nothing."""

import pytest
from test_tars import pairs, write_tar

from cloob_jax.data import sources
from cloob_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for number in (2, 10):
        write_tar(tmp_path / f"{number}.tar", pairs(2, f"{number}-"))
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*.tar", "/{2,10}.tar"])
def test_folder_glob_and_braces_find_the_same_in_natural_order(folder, pattern):
    source = sources.build(f"{folder}{pattern}")
    assert [source.name(i)[0] for i in (0, 2)] == ["2.tar", "10.tar"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/missing/*.tar", "which does not exist"),
        ("/1*0.tarr", r"nearest name is 10\.tar"),
        ("/{2..10}.tar", r"7 of 9 files"),
    ],
)
def test_missing_shards_are_named(folder, pattern, message):
    with pytest.raises(UserError, match=message):
        sources.build(f"{folder}{pattern}")


def test_an_empty_pattern_is_refused():
    with pytest.raises(UserError, match=r"config\.data\.train is empty"):
        sources.build("")


def test_shards_without_pairs_are_refused(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.npy", b"1"), ("a.json", b"{}")])
    with pytest.raises(UserError, match=r"0\.tar: no record with an image"):
        sources.build(str(tmp_path))


def test_a_folder_of_something_else_is_told(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no \*\.tar, .*picture with a \.txt"):
        sources.build(str(tmp_path))
    (tmp_path / "pairs.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"give the table itself: \S*/pairs\.csv"):
        sources.build(str(tmp_path))
    (tmp_path / "dataset_info.json").write_bytes(b"{}")
    with pytest.raises(
        UserError, match=rf"a TFDS data set: give tfds:{tmp_path}:SPLIT"
    ):
        sources.build(str(tmp_path))


def test_an_unknown_ending_is_told(tmp_path):
    (tmp_path / "a.lmdb").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.lmdb has no known ending.*\.tar.*Parquet"):
        sources.build(f"{tmp_path}/*")


def test_columns_where_there_are_none_are_refused(folder):
    with pytest.raises(UserError, match=r"columns=image,text: .*tars .* no columns"):
        sources.build(str(folder), "image,text")
