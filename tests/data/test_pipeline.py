"""The order of examples: a function of (seed, examples seen), whoever does the work."""

import io
import itertools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image
from test_tars import pairs, write_tar

from cloob_jax.data import order, pipeline, sources
from cloob_jax.data.bad_records import BadRecords
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer

_BATCH = 8


def jpeg(number):
    pixels = np.random.default_rng(number).integers(0, 256, (24, 20, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def make_load(folder, count=40, bad=()):
    members = []
    for number in range(count):
        image = b"no image" if number in bad else jpeg(number)
        captions = f"picture {number}\nthe same {number}".encode()
        members += [(f"{number:04d}.jpg", image), (f"{number:04d}.txt", captions)]
    tar = write_tar(folder / f"{len(bad)}-bad.tar", members)
    source = sources.build(str(tar))
    return pipeline.LoadPair(source, Tokenizer(16), 16)


@pytest.fixture
def load(tmp_path):
    return make_load(tmp_path)


def take(load, count, **options):
    """The first batches, and the iterator closed."""
    settings = {"batch_size": _BATCH, "examples_seen": 0, "seed": 0} | options
    batches = pipeline.train_batches(load, **settings)
    try:
        return [
            {name: np.array(value) for name, value in batch.items()}
            for batch in itertools.islice(batches, count)
        ]
    finally:
        batches.close()


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_each_epoch_is_another_permutation(load):
    records = np.concatenate([batch["record"] for batch in take(load, 10)])
    first, second = records[:40].tolist(), records[40:].tolist()
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_crops_and_captions_change_with_the_epoch(load):
    batches = take(load, 10)
    seen = {}
    for batch in batches:
        for record, image, text in zip(
            batch["record"], batch["image"], batch["text"], strict=True
        ):
            seen.setdefault(int(record), []).append((image.tobytes(), text.tobytes()))
    # Few crops are possible on pictures this small, so some coincide.
    assert sum(a[0] != b[0] for a, b in seen.values()) > 30
    assert 5 < sum(a[1] != b[1] for a, b in seen.values()) < 35  # one of two captions


@pytest.mark.parametrize("start", [1, 3, 6])
def test_a_run_goes_on_at_any_batch(load, start):
    assert_equal(
        take(load, 3, examples_seen=start * _BATCH), take(load, start + 3)[start:]
    )


def test_a_window_is_an_order_of_its_own(load):
    one = take(load, 10, shuffle="window")
    assert sorted(np.concatenate([b["record"] for b in one[:5]])) == list(range(40))
    # It goes on in the middle of an epoch, at another number of examples a batch.
    then = take(load, 4, shuffle="window", batch_size=4, examples_seen=24)
    records = np.concatenate([batch["record"] for batch in one])
    np.testing.assert_array_equal(
        np.concatenate([batch["record"] for batch in then]), records[24:40]
    )
    other = np.concatenate([batch["record"] for batch in take(load, 10)])
    assert (records != other).any()


def test_processes_read_different_chunks_of_a_window(load, monkeypatch):
    monkeypatch.setattr(order, "_CHUNK_SIZE", 5)
    monkeypatch.setattr(order, "_LANES", 4)
    whole = take(load, 5, shuffle="window")
    halves = [
        take(load, 5, shuffle="window", rows=np.arange(first, first + 4))
        for first in (0, 4)
    ]
    for one, *parts in zip(whole, *halves, strict=True):
        both = np.concatenate([part["record"] for part in parts])
        np.testing.assert_array_equal(one["record"], both)
    chunks = [
        {int(record) // 5 for batch in half for record in batch["record"]}
        for half in halves
    ]
    assert len(chunks[0]) == len(chunks[1]) == 4 and not chunks[0] & chunks[1]


@pytest.mark.parametrize("options", [{"num_threads": 1}, {"num_threads": 4}])
def test_threads_do_not_change_the_order(load, options):
    assert_equal(take(load, 6, **options), take(load, 6))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 3, 6, 7], [7]], ids=str)
def test_processes_share_one_stream(load, rows):
    for part, whole in zip(
        take(load, 12, rows=np.array(rows), examples_seen=8),
        take(load, 12, examples_seen=8),
        strict=True,
    ):
        for name in whole:
            np.testing.assert_array_equal(part[name], whole[name][rows])


def abstract_batch(mesh, *rows):
    spec = PartitionSpec(*[None] * (len(rows) - 1), "b")
    return {
        name: jax.ShapeDtypeStruct(
            (*rows, *shape), dtype, sharding=NamedSharding(mesh, spec)
        )
        for name, shape, dtype in (
            ("image", (16, 16, 3), np.uint8),
            ("text", (16,), np.int32),
        )
    }


@pytest.mark.parametrize("shape", [(2, 4), (4, 1), (4, 2)])
@pytest.mark.parametrize("rows", [(_BATCH,), (2, _BATCH // 2)])
def test_each_device_holds_its_rows(load, shape, rows):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    batch = abstract_batch(Mesh(devices, ("b", "t")), *rows)
    held = pipeline.local_rows(batch["text"])
    np.testing.assert_array_equal(held, range(_BATCH))
    batches = pipeline.train_batches(
        load, batch_size=_BATCH, examples_seen=0, seed=0, rows=held
    )
    feed = pipeline.place_on_mesh(batches, batch)
    host, arrays = next(feed)
    feed.close()
    for name, leaf in batch.items():
        assert arrays[name].sharding == leaf.sharding
        whole = host[name].reshape(leaf.shape)
        np.testing.assert_array_equal(arrays[name], whole)
        for shard in arrays[name].addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[shard.index])


def test_seeds_do_not_share_an_epoch(load):
    epochs = [
        tuple(np.concatenate([b["record"] for b in take(load, 15, seed=seed)]))
        for seed in (3, 4)
    ]
    pieces = [epoch[i : i + 40] for epoch in epochs for i in (0, 40, 80)]
    assert len(set(pieces)) == 6


def test_bad_records_are_replaced_alike_and_listed_once(tmp_path):
    bad = {3, 17, 30}
    load = make_load(tmp_path, bad=bad)
    clean = take(make_load(tmp_path, 40), 10)
    batches = take(load, 10, num_threads=3)
    assert_equal(batches, take(load, 10))
    met = []  # the bad records of each batch
    for with_bad, without in zip(batches, clean, strict=True):
        is_hit = with_bad["bad"][:, 0] >= 0
        met.append(set(with_bad["bad"][is_hit, 0].tolist()))
        np.testing.assert_array_equal(is_hit, np.isin(without["record"], list(bad)))
        # The others are not moved by it.
        same = with_bad["image"][~is_hit] == without["image"][~is_hit]
        assert same.all() and not np.isin(with_bad["record"], list(bad)).any()

    path, wholes = tmp_path / "bad_records.jsonl", []
    # The second run goes on after the first batch that met some, but not all.
    first = next(number for number, some in enumerate(met, start=1) if some)
    assert met[first - 1] < bad
    for after in (0, first):
        records = BadRecords(tmp_path, load, 0.1, examples_seen=after * _BATCH)
        assert len(records) == (len(met[first - 1]) if after else 0)
        for step, batch in enumerate(batches[after:], start=after + 1):
            records.check(batch["bad"], step * _BATCH)
        assert records.kinds == {"not an image": 3}
        wholes.append(path.read_text())
        path.write_text(wholes[-1] + '{"shard": "0.ta')  # as a kill leaves it
    assert wholes[0] == wholes[1] and len(wholes[0].splitlines()) == len(records) == 3
    assert '"key": "0003"' in wholes[0] and "not an image" in wholes[0]


def test_a_record_of_other_data_is_another_record(tmp_path):
    for number, bad in enumerate([{3}, {3, 4}]):
        seen, load = number * _BATCH, make_load(tmp_path, bad=bad)
        records = BadRecords(tmp_path, load, 0.5, examples_seen=seen)
        records.check(np.array([3, -1]), seen + _BATCH)
        assert len(records) == number + 1


def test_too_many_bad_records_stop_the_run(tmp_path):
    load = make_load(tmp_path, bad={1, 2, 3})
    records = BadRecords(tmp_path, load, max_fraction=0.05)  # 2 of 40 are allowed
    with pytest.raises(UserError, match=r"3 bad records.*max_bad_fraction=0\.05"):
        for step, batch in enumerate(take(load, 5), start=1):
            records.check(batch["bad"], step * _BATCH)


def test_what_the_index_left_out_counts_against_all_records(tmp_path):
    members = [
        member
        for member in pairs(2000)
        if not (member[0].endswith(".txt") and member[0] < "000011")
    ]
    source = sources.build(str(write_tar(tmp_path / "0.tar", members)))
    load = pipeline.LoadPair(source, Tokenizer(16), 16)
    assert len(BadRecords(tmp_path, load, max_fraction=0.01)) == 11  # of 2000
    with pytest.raises(UserError, match="11 faults beside 1989 good records"):
        BadRecords(tmp_path, load, max_fraction=0.005)


def test_data_of_nothing_but_bad_records_is_refused(tmp_path):
    load = make_load(tmp_path, bad=set(range(40)))
    with pytest.raises(UserError, match="8 records drawn in a row are bad.*not an im"):
        take(load, 1)
