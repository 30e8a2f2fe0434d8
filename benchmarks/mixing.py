"""How well orders for distant storage mix, beside shuffle buffers of other loaders.

    python benchmarks/mixing.py [--records=1000000] [--batch=4096]

Of each order: of the pairs of examples in a batch, the share of neighbours, which lie
less than 1,000 records apart in storage; how much of a shard an example's batch could
have come from; and what a host has to keep for it. Numbers alone, nothing is read.
"""

import argparse
import itertools
from collections.abc import Iterator

import numpy as np
import record

_SHARD, _NEAR = 10_000, 1000


def main() -> None:
    """Prints a table and adds a line to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=4096)
    given = parser.parse_args()
    size, rng = given.records, np.random.default_rng(0)
    shards = [range(s, s + _SHARD) for s in range(0, size, _SHARD)]
    mixed = [shards[number] for number in rng.permutation(len(shards))]
    orders = {
        # name: the order, records kept
        "any (global)": (rng.permutation(size), 0),
        "window of 32 x 500": (_window(size), 32_000),
        "open_clip: shards, buffer of 5,000": (
            _buffer(_one_after_another(mixed), 5000, rng),
            5000,
        ),
        "16 shards in turn, buffer of 10,000": (
            _buffer(_in_turn(mixed, 16), 10_000, rng),
            10_000,
        ),
        "16 shards in turn, buffer of 32,000": (
            _buffer(_in_turn(mixed, 16), 32_000, rng),
            32_000,
        ),
        "one shard after another, none": (np.concatenate(mixed), 0),
    }
    rows = []
    for name, (order, kept) in orders.items():
        assert len(np.unique(order)) == size
        row = {"order": name, "kept": kept, **_mixing(order, given.batch)}
        rows.append(row)
        print(
            f"{name:<38} neighbours {row['neighbours_percent']:6.2f} %   "
            f"median of an example {row['neighbours_of_an_example']:5.0f}   "
            f"kept {kept:>7,}"
        )
    record.append("mixing", vars(given), rows)


def _mixing(order: np.ndarray, batch: int) -> dict[str, float]:
    """Of batches spread over the epoch, the first, where buffers fill, left out."""
    starts = np.linspace(len(order) // 10, len(order) - batch, 50).astype(int)
    counts = []
    for start in starts:
        numbers = np.sort(order[start : start + batch])
        after = np.searchsorted(numbers, numbers + _NEAR)
        before = np.searchsorted(numbers, numbers - _NEAR, "right")
        counts.append(after - before - 1)
    counts = np.array(counts)
    return {
        "neighbours_percent": round(100 * counts.mean() / (batch - 1), 3),
        "neighbours_of_an_example": float(np.median(counts)),
    }


def _window(size: int) -> np.ndarray:
    from cloob_jax.data.window import WindowShuffle

    order = WindowShuffle(range(size), 0, 500, 32)
    return np.array([order[place] for place in range(size)])


def _one_after_another(shards: list[range]) -> Iterator[int]:
    for shard in shards:
        yield from shard


def _in_turn(shards: list[range], width: int) -> Iterator[int]:
    """tf.data's interleave, one element of each."""
    waiting = iter(shards)
    turns = [iter(shard) for shard in itertools.islice(waiting, width)]
    while turns:
        for place, turn in reversed(list(enumerate(turns))):
            number = next(turn, None)
            if number is None:
                following = next(waiting, None)
                if following is None:
                    del turns[place]
                    continue
                turns[place] = iter(following)
                number = next(turns[place])
            yield number


def _buffer(numbers: Iterator[int], size: int, rng: np.random.Generator) -> np.ndarray:
    """A buffer that is kept full, of which a random place is taken each time."""
    kept, order = [], []
    for number in numbers:
        if len(kept) < size:
            kept.append(number)
            continue
        place = int(rng.integers(size))
        order.append(kept[place])
        kept[place] = number
    rng.shuffle(kept)
    return np.array(order + kept)


if __name__ == "__main__":
    main()
