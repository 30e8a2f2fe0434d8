"""The rates that `prepare check` measures, and what it makes of them."""

import threading
import time

import pytest
from test_checking import picture

from cloob_jax.data.augment import BadRecord
from cloob_jax.data.pipeline import LoadPair
from cloob_jax.errors import UserError
from cloob_jax.preparation import rates
from cloob_jax.tokenizer import Tokenizer


class Slow:
    """Pictures from a disk that needs five milliseconds for each."""

    fingerprint, faults = "", []

    def __init__(self):
        self._lock, self._waiting = threading.Lock(), 0
        self.most_waiting = 0

    def __len__(self):
        return 20

    def __getitem__(self, record):
        if record % 5 == 0:
            raise BadRecord("missing image")
        with self._lock:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)
        time.sleep(0.005)
        with self._lock:
            self._waiting -= 1
        return picture(record), b"a caption"

    def name(self, record):
        return "shard", str(record)


def test_waiting_is_shared_by_threads_and_costs_no_core():
    slow = Slow()
    found = rates.measure(LoadPair(slow, Tokenizer(), 32), 0.2)
    (one, one_bytes), (eight, _) = found.reading[1], found.reading[8]
    # What the disk allows; how near a busy machine comes to it is not for a test.
    assert 0 < one <= 200 and 0 < eight <= 1600
    assert 3 < slow.most_waiting <= 8
    assert one_bytes / one == pytest.approx(len(picture(1)), rel=0.2)
    # One core could do more than wait for the disk.
    assert found.per_core > 200


def test_cores_are_those_that_the_rate_needs():
    found = rates.Rates({1: (5000.0, 5e8), 8: (9000.0, 9e8)}, per_core=650.0)
    facts = {fact.name: fact for fact in rates.facts(found, 3000, 224, 16)}
    # 1.3 x 3000 / 650, of 14 that the trainer leaves.
    assert facts["cores"].numbers["needed"] == 6
    assert facts["settings"].numbers == {"num_workers": 6, "num_threads": 1}
    assert facts["cores"].numbers["limit"] == "reading"
    assert "feed about 9,000 by reading" in facts["cores"].text
    few = {fact.name: fact for fact in rates.facts(found, 3000, 224, 2)}
    assert "feed about 1,300 by decoding" in few["cores"].text
    assert few["settings"].numbers == {"num_workers": 0, "num_threads": 2}


def test_a_disk_that_fails_is_told_of(monkeypatch):
    def fail(self, record):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Slow, "__getitem__", fail)
    with pytest.raises(UserError, match="cannot be read: .*Input/output error"):
        rates.measure(LoadPair(Slow(), Tokenizer(), 32), 0.01)
