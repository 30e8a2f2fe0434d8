"""The records that `prepare check` looks at, and what it sees in them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checking import picture

from cloob_jax.data.pipeline import LoadPair
from cloob_jax.preparation import sample
from cloob_jax.tokenizer import Tokenizer


@settings(deadline=None)
@given(total=st.integers(1, 5000) | st.integers(1, 10**9), at_most=st.integers(1, 3000))
def test_places_are_spread_over_everything(total, at_most):
    records = sample.choose(total, at_most)
    assert (np.diff(records) > 0).all()
    assert 0 <= records[0] and records[-1] < total
    if len(records) < total:
        assert 0.9 * at_most <= len(records) <= at_most + 7 < total / 2 + 7
    stretch = max(1, 8 * total / at_most)
    assert np.diff(records, prepend=0, append=total).max() <= 2 * stretch + 8
    np.testing.assert_array_equal(records, sample.choose(total, at_most))


class Damaged:
    """Every record another thing that can go wrong, and a good one."""

    fingerprint, faults = "", []
    _records = [
        (picture(0), b"good"),
        (picture(0)[:300], b"half"),
        (b"", b"nothing"),
        (picture(1), b""),
        (picture(2), b"\xff"),
        OSError(5, "Input/output error"),
        ZeroDivisionError("a library at fault"),
    ]

    def __len__(self):
        return len(self._records)

    def __getitem__(self, record):
        if isinstance(self._records[record], Exception):
            raise self._records[record]
        return self._records[record]

    def name(self, record):
        return "shard", str(record)


def test_records_are_bad_as_training_finds_them():
    source = Damaged()
    told = []
    found = sample.examine(
        source,
        sample.choose(7, 100),
        image_size=32,
        num_threads=2,
        report=lambda done, total: told.append((done, total)),
    )
    load = LoadPair(source, Tokenizer(), 32)
    wanted = [""] + [load.fault(record).kind for record in range(1, 5)]
    assert [found.kinds[row["kind"]] for row in found.rows] == [
        *wanted,
        "unreadable record",
        "unforeseen error",
    ]
    assert found.bad["unreadable record"] == [(5, "Input/output error")]
    assert found.bad["unforeseen error"] == [
        (6, "ZeroDivisionError: a library at fault")
    ]
    assert told[-1] == (7, 7) and found.is_whole and len(found.good) == 1
    (good,) = found.good
    assert (good["width"], good["height"], good["num_tokens"]) == (120, 100, 3)
    assert good["num_bytes"] == len(picture(0))
