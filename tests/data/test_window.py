"""The order of windows: every record once an epoch, and whole chunks at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloob_jax.data.window import ReadAhead, WindowShuffle


def epochs(dataset, size, count=2):
    return [[dataset[epoch * size + i] for i in range(size)] for epoch in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 25), st.integers(1, 8), st.integers(0, 99))
def test_every_epoch_has_every_record_once(size, chunk_size, lanes, seed):
    dataset = WindowShuffle(range(7, 7 + size), seed, chunk_size, lanes).repeat()
    for order in epochs(dataset, size):
        assert sorted(order) == list(range(7, 7 + size))


def test_a_window_is_read_before_the_next_and_its_chunks_in_turn():
    first, second = epochs(WindowShuffle(range(1000), 3, 50, 4).repeat(), 1000)
    assert first != second
    for order in (first, second):
        chunks = np.array(order).reshape(5, 50, 4) // 50  # windows, turns, lanes
        assert (chunks == chunks[:, :1]).all()  # a lane keeps to its chunk
        assert len(np.unique(chunks)) == 20
    # Neither chunks nor what is in them lie in the order of the files.
    assert (np.diff(np.array(first).reshape(5, 50, 4)[0, :, 0]) != 1).any()
    assert (np.diff(chunks[:, 0].ravel()) != 1).any()


def test_the_order_is_a_function_of_the_seed_and_the_position():
    one = WindowShuffle(range(500), 1, 30, 4).repeat()
    assert [one[i] for i in range(700, 720)] == list(
        WindowShuffle(range(500), 1, 30, 4).repeat()[700:][:20]
    )
    assert list(one[:20]) != list(WindowShuffle(range(500), 2, 30, 4).repeat()[:20])


class Told:
    """A source that remembers what it was told to expect."""

    def __init__(self):
        self.chunks = []

    def expect(self, records):
        self.chunks.append(records)


def test_a_source_is_told_of_each_chunk_a_window_before():
    source, order = Told(), WindowShuffle(range(7, 1007), 3, 50, 4)
    ahead = ReadAhead(order, source)
    for place in range(200):  # the first window
        assert ahead[place] == order[place]
    needed = [{order.chunk(order[p]) for p in range(s, s + 200)} for s in (0, 200)]
    assert set(source.chunks) == needed[0] | needed[1]
    assert len(source.chunks) == 8  # once each
