"""The order of examples: one stream, whoever reads it and in whatever pieces."""

import itertools

import numpy as np
import pytest
from test_pipeline import jpeg, take
from test_tars import write_tar

from cloob_jax.data import order, pipeline, sources
from cloob_jax.tokenizer import Tokenizer

_SIZES = (28, 16)  # records of the two parts
_NUM_RECORDS = sum(_SIZES)
_BAD = 5
_LENGTH = 16  # of texts
# Parts of a run: how many hosts, workers of each, and the batch size.
_PARTS = [(2, 2, 8), (1, 0, 12), (4, 1, 20), (2, 0, 12), (1, 1, 20), (4, 0, 8)]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    folder, first = tmp_path_factory.mktemp("data"), 0
    for name, size in zip("ab", _SIZES, strict=True):
        members = []
        for number in range(first, first + size):
            image = b"no image" if number == _BAD else jpeg(number)
            captions = f"picture {number}\nthe same {number}".encode()
            members += [(f"{number}.jpg", image), (f"{number}.txt", captions)]
        write_tar(folder / f"{name}.tar", members)
        first += size
    return f"{folder}/a.tar::{folder}/b.tar"


def examples(batch):
    """Comparable: the record, its crop and its text."""
    columns = (batch[name] for name in ("record", "image", "text"))
    return [
        (int(record), image.tobytes(), tuple(text))
        for record, image, text in zip(*columns, strict=True)
    ]


def read_in_parts(load, parts, shuffle):
    """The batches of a run that is so divided, two of each part.

    Starting a worker takes seconds, and hosts share nothing: so one host of each part,
    another each time, has the workers, and the others have none.
    """
    batches, seen = [], 0
    for number, (hosts, workers, batch_size) in enumerate(parts):
        pieces = [
            take(
                load,
                2,
                batch_size=batch_size,
                examples_seen=seen,
                num_workers=workers if host == number % hosts else 0,
                shuffle=shuffle,
                rows=rows,
            )
            for host, rows in enumerate(np.split(np.arange(batch_size), hosts))
        ]
        for of_hosts in zip(*pieces, strict=True):
            batches.append([row for piece in of_hosts for row in examples(piece)])
        seen += 2 * batch_size
    return batches


@pytest.mark.parametrize(
    ("shuffle", "weights", "parts"),
    [
        ("global", None, _PARTS),
        ("global", "2::1", [(2, 0, 8), (1, 1, 12), (4, 0, 20)]),
        ("window", None, [(1, 1, 16), (4, 0, 8), (2, 0, 12)]),
        ("window", "2::1", [(4, 0, 20), (1, 0, 8), (2, 0, 4)]),
    ],
)
def test_hosts_workers_and_batch_size_may_change_within_an_epoch(
    pattern, monkeypatch, shuffle, weights, parts
):
    monkeypatch.setattr(order, "_CHUNK_SIZE", 5)
    monkeypatch.setattr(order, "_LANES", 4)
    source = sources.build(pattern, weights=weights)
    tokenizer = Tokenizer(_LENGTH)
    load = pipeline.LoadPair(source, tokenizer, 16)
    batches = read_in_parts(load, parts, shuffle)

    stream = order.shuffled(source, 0, shuffle)
    one_by_one, seen = stream.random_map(load), 0
    for batch in batches:
        expected = [one_by_one[seen + number] for number in range(len(batch))]
        expected = [
            (int(one["record"]), one["image"].tobytes(), tuple(one["text"]))
            for one in expected
        ]
        # A window lays the examples of a batch side by side in an order of its own.
        is_same = sorted(batch) == sorted(expected)
        assert is_same and (shuffle == "window" or batch == expected)
        seen += len(batch)

    # What no code of ours says: which text a record has, and how often it comes.
    for record, _, text in itertools.chain(*batches):
        captions = [f"picture {record}", f"the same {record}"]
        assert list(text) in tokenizer(captions).tolist() and record != _BAD
    drawn = [int(stream[number]) for number in range(seen)]
    assert seen > len(source)
    if weights:
        turns = np.array(drawn[: seen // 3 * 3]).reshape(-1, 3)
        assert ((turns < _SIZES[0]).sum(axis=1) == 2).all()
        drawn = [number for number in drawn if number < _SIZES[0]]
    size = _SIZES[0] if weights else _NUM_RECORDS
    for first in range(0, len(drawn) - size, size):
        assert sorted(drawn[first : first + size]) == list(range(size))
