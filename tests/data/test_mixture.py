"""Several data sets as one: the union, the ratio, and where a run goes on."""

import collections
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_csv_rows import write_table
from test_pipeline import assert_equal, jpeg, take
from test_tars import pairs, write_tar

from cloob_jax import validation
from cloob_jax.data import array_records, mixture, order, pipeline, sources
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer
from configs import common


@pytest.fixture
def pattern(tmp_path):
    """Six pairs in tars, four in a table."""
    write_tar(tmp_path / "0.tar", [*pairs(6), ("lost.txt", b"")])
    return f"{tmp_path}/0.tar::{write_table(tmp_path)}"


def numbers(source, count, seed=0, start=0):
    stream = order.shuffled(source, seed)[start:]
    return [int(stream[number]) for number in range(count)]


def test_a_union_has_each_record_once_an_epoch(pattern):
    union = sources.build(pattern)
    parts = [sources.build(part) for part in pattern.split("::")]
    assert [union[n] for n in range(10)] == [p[n] for p in parts for n in range(len(p))]
    with pytest.raises(IndexError):
        union[10]
    tars, table = pattern.split("::")
    assert union.name(5) == (f"{tars}: 0.tar", "000005")
    assert union.name(6) == (f"{table}: table.csv", "pictures/0.jpg")
    assert [fault.shard for fault in union.faults] == [f"{tars}: 0.tar"]
    assert sorted(numbers(union, 10)) == list(range(10))
    assert mixture.epochs(union, 25) == [2.5]
    copy = pickle.loads(pickle.dumps(union))
    assert copy[9] == union[9] and copy.fingerprint == union.fingerprint


@pytest.mark.parametrize(
    ("weights", "ratio"), [("2::1", (2, 1)), ("0.3::0.7", (3, 7)), ("1/3::1", (1, 3))]
)
def test_weights_are_an_exact_ratio_of_permutations(pattern, weights, ratio):
    mixed = sources.build(pattern, weights=weights)
    period, rounds = sum(ratio), 24
    drawn = numbers(mixed, rounds * period)
    is_second = np.array(drawn) >= 6
    np.testing.assert_array_equal(
        is_second.reshape(rounds, period).sum(axis=1), ratio[1]
    )
    # Never further than one example from the ratio, at any length.
    ahead = np.cumsum(is_second) - np.arange(1, len(drawn) + 1) * ratio[1] / period
    assert np.abs(ahead).max() < 1
    for part, size in (
        (np.array(drawn)[~is_second], 6),
        (np.array(drawn)[is_second], 4),
    ):
        epochs = [tuple(part[i : i + size]) for i in range(0, len(part) - size, size)]
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert len(set(epochs)) > 1


def test_the_order_is_a_function_of_seed_and_place(pattern):
    mixed = sources.build(pattern, weights="3::2")
    whole = numbers(mixed, 60)
    assert numbers(pickle.loads(pickle.dumps(mixed)), 20, start=40) == whole[40:]
    assert numbers(mixed, 60, seed=1) != whole
    twice = sources.build("::".join([pattern.split("::")[0]] * 2), weights="1::1")
    drawn = numbers(twice, 12)
    first = [number for number in drawn if number < 6]
    assert first != [number - 6 for number in drawn if number >= 6]


def test_batches_go_on_and_bad_records_keep_the_ratio(tmp_path):
    for name, bad in (("a", {1, 2}), ("b", set())):
        members = [
            member
            for number in range(8)
            for member in (
                (f"{number}.jpg", b"" if number in bad else jpeg(number)),
                (f"{number}.txt", b"text"),
            )
        ]
        write_tar(tmp_path / f"{name}.tar", members)
    source = sources.build(f"{tmp_path}/a.tar::{tmp_path}/b.tar", weights="3::1")
    load = pipeline.LoadPair(source, Tokenizer(16), 16)
    batches = take(load, 6)
    assert_equal(take(load, 4, examples_seen=16, num_threads=4), batches[2:])
    for batch in batches:
        assert (batch["record"] < 8).sum() == 6
    assert any((batch["bad"] >= 0).any() for batch in batches)


def test_the_fingerprint_covers_what_weights_mean(pattern):
    names = ["", "2::1", "4::2", "1::2"]
    found = [sources.build(pattern, weights=w or None).fingerprint for w in names]
    assert found[1] == found[2]
    assert collections.Counter(found).most_common(2)[1][1] == 1
    swapped = sources.build("::".join(reversed(pattern.split("::"))))
    assert swapped.fingerprint != found[0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("2::1::1", r"3 weights for the 2 part\(s\)"),
        ("2", r"1 weights for the 2 part"),
        ("0::1", "expected numbers above 0"),
        ("-1::1", "expected numbers above 0"),
        ("2,1", "with :: between them, such as 2::1"),
        ("1/0::1", "with :: between them"),
        ("nan::1", "with :: between them"),
        ("1e-9::1", "more than 1000000 together"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(UserError, match=rf"^config\.data\.weights=.*{message}"):
        validation.weights(weights, 2)


def test_a_config_is_checked_before_anything_is_built():
    config = ConfigDict(common.get_config())
    config.model.name, config.optim.learning_rate = "RN50", 1e-3
    for values, message in (
        ({"train": "a::b", "weights": "1::0"}, "above 0"),
        ({"train": "a", "weights": "1::1"}, "2 weights for the 1 part"),
        ({"columns": "image"}, "columns=image: expected two names, IMAGE,CAPTION"),
        ({"columns": "a,a"}, "expected two names"),
    ):
        changed = config.copy_and_resolve_references()
        changed.data.update(values)
        with pytest.raises(UserError, match=message):
            validation.check(changed)


@pytest.mark.parametrize("pattern", ["a.csv::", "::a.csv", "a::::b"])
def test_an_empty_part_is_refused(pattern):
    with pytest.raises(UserError, match=r"part \d of \d is empty; expected A::B"):
        sources.build(pattern)


def test_several_tables_are_one(tmp_path):
    tables = [write_table(tmp_path, name=f"{n}.csv") for n in (2, 10)]
    both = sources.build(f"{tmp_path}/*.csv")
    assert len(both) == 8
    assert [both.name(n)[0] for n in (0, 4)] == [f"{t}: {t.name}" for t in tables]
    write_tar(tmp_path / "0.tar", pairs(1))
    with pytest.raises(UserError, match=r"\{0,2\}\.\*: matches tars .* and tables"):
        sources.build(f"{tmp_path}/{{0,2}}.*")


def test_worker_processes_read_every_form_alike(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
        (folder / f"{number}.txt").write_text("text")
    rows = "".join(f"folder/{number}.jpg,text\n" for number in range(4))
    (tmp_path / "t.csv").write_text(f"filepath,title\n{rows}")
    columns = {"jpg": [jpeg(n) for n in range(4)], "text": ["text"] * 4}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    array_records.write(
        tmp_path / "0.array_record", ((str(n), jpeg(n), "text") for n in range(4))
    )
    forms = ["folder", "t.csv", "0.parquet", "0.array_record"]
    pattern = "::".join(f"{tmp_path}/{form}" for form in forms)
    load = pipeline.LoadPair(sources.build(pattern), Tokenizer(16), 16)
    batches = take(load, 4, num_workers=2)
    assert_equal(batches, take(load, 4))
    records = np.concatenate([batch["record"] for batch in batches])
    assert sorted(records[:16]) == sorted(records[16:]) == list(range(16))
