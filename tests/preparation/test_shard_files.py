"""What files and their names tell of a data set."""

import pytest
from test_checking import clean, write

from cloob_jax.data import sources
from cloob_jax.data.protocol import Fault
from cloob_jax.preparation import shard_files


def named(found, name):
    (each,) = [each for each in found if each.name == name]
    return each


def folder(tmp_path, name, shards):
    (tmp_path / name).mkdir()
    write(tmp_path / name, shards)
    return tmp_path / name


def test_parts_of_a_mixture_are_looked_at_each_by_itself(tmp_path):
    made = folder(tmp_path, "made", clean())
    fetched = folder(tmp_path, "fetched", clean())
    for number in (0, 1):
        (fetched / f"{number:05d}_stats.json").write_text("{}")
    found = list(shard_files.spread(sources.build(f"{made}::{fetched}")))
    assert named(found, "files").numbers == {"files": 6, "least": 30, "most": 30}
    unfinished = named(found, "unfinished tars")
    assert unfinished.count == 1 and unfinished.examples == ["fetched/00002.tar"]


def test_keys_of_several_tars(tmp_path):
    shards = clean()
    shards["00002.tar"] = shards["00000.tar"]
    source = sources.build(str(folder(tmp_path, "tars", shards)))
    told = []
    (fact,) = shard_files.keys(source, 2, lambda *numbers: told.append(numbers))
    # The first and the last of three.
    assert fact.numbers == {"tars": 2, "keys": 30, "in_several": 30}
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "names",
    [
        ["2014.tar", "2017.tar"],
        ["a-1.tar", "a-3.tar"],
        ["20261121080500.tar", "00001.tar", "00000.tar"],
    ],
)
def test_numbers_that_are_no_count_may_have_gaps(tmp_path, names):
    shards = dict(zip(names, clean().values(), strict=False))
    found = shard_files.spread(sources.build(str(folder(tmp_path, "tars", shards))))
    assert [each.name for each in found] == ["files"]


def test_the_last_tar_may_be_short(tmp_path):
    shards = clean()
    shards["00002.tar"] = dict(list(shards["00002.tar"].items())[:2])
    found = shard_files.spread(sources.build(str(folder(tmp_path, "tars", shards))))
    assert [(each.name, each.numbers["least"]) for each in found] == [("files", 1)]


def test_what_was_left_out_is_counted_by_what_it_is():
    faults = [
        Fault("0.parquet", "", "12 rows without an image"),
        Fault("1.parquet", "", "3 rows without an image"),
        Fault("0.tar", "a", "no txt member"),
        Fault("x-00001-of-00003", "", "the file is missing"),
        Fault("pics", "pics/closed", "cannot be listed: Permission denied"),
        Fault("?", "", "what nobody foresaw"),
    ]
    passed_over, *found = shard_files.left_out(faults)
    assert passed_over.numbers == {"rows_without_image": 15}
    assert [(each.name, each.count) for each in found] == [
        ("images without a caption", 1),
        ("missing files", 1),
        ("closed folders", 1),
        ("left out", 1),
    ]
    assert found[0].text == "1 in 0.tar"
    assert found[0].examples == ["0.tar a: no txt member"]
