"""How fast records are read and decoded here, and the cores that a rate needs."""

import dataclasses
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cloob_jax.data import pipeline
from cloob_jax.data.augment import BadRecord
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.preparation.findings import Fact

_READERS = 8  # threads, of which most wait for the disk
_BATCH_SIZE = 64
_SPARE = 1.3  # times the cores, for what varies
_FEW_CORES = 3  # up to which threads of the trainer are as fast as processes


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was measured, records in random order as in training.

    Attributes:
      reading: threads -> records a second and bytes a second, as they are cached.
      per_core: images a second that the training pipeline makes of one core's time.
    """

    reading: dict[int, tuple[float, float]]
    per_core: float


def measure(load: pipeline.LoadPair, seconds: float) -> Rates:
    """Takes three times so many seconds; `load` makes an example of a record.

    Raises:
      UserError: so many records are bad that a run would stop.
    """
    threads = (1, _READERS)
    reading = {number: _reading(load.source, number, seconds) for number in threads}
    return Rates(reading, _per_core(load, seconds))


def _reading(source: Source, threads: int, seconds: float) -> tuple[float, float]:
    start = time.perf_counter()

    def read(thread: int) -> tuple[int, int]:
        # Records that no other thread and no earlier measurement has read.
        rng, records, size = np.random.default_rng([threads, thread]), 0, 0
        while time.perf_counter() - start < seconds:
            try:
                size += len(source[int(rng.integers(len(source)))][0])
            except (BadRecord, OSError):
                continue
            records += 1
        return records, size

    with ThreadPoolExecutor(threads) as pool:
        counts = list(pool.map(read, range(threads)))
    elapsed = time.perf_counter() - start
    records, size = (sum(column) for column in zip(*counts, strict=True))
    return records / elapsed, size / elapsed


def _per_core(load: pipeline.LoadPair, seconds: float) -> float:
    batches = pipeline.train_batches(
        load, batch_size=_BATCH_SIZE, examples_seen=0, seed=0, num_threads=1
    )
    try:
        next(batches)
        # Of this process: neither waiting for the disk nor other programs count.
        busy, start, count = time.process_time(), time.perf_counter(), 0
        while not count or time.perf_counter() - start < seconds:
            next(batches)
            count += _BATCH_SIZE
        return count / (time.process_time() - busy)
    except OSError as error:
        raise UserError(f"a record cannot be read: {error}") from None
    finally:
        batches.close()


def facts(rates: Rates, target: int, image_size: int, available: int) -> list[Fact]:
    """The rates, the cores for `target` images a second, and what to set here."""
    needed = math.ceil(_SPARE * target / rates.per_core)
    read = max(records for records, _ in rates.reading.values())
    decoded = rates.per_core * available
    limit = "reading" if read < decoded else "decoding"
    workers, threads = settings(needed, available)
    reading = ", ".join(
        f"{records:,.0f} records/s ({size / 1e6:,.0f} MB/s) in {number} "
        f"thread{'s' * (number > 1)}"
        for number, (records, size) in rates.reading.items()
    )
    return [
        Fact("reading", reading, {"threads": _plain(rates.reading)}),
        Fact(
            "decoding",
            f"{rates.per_core:,.0f} images/s a core, cropped to {image_size} px",
            {"images_per_second_and_core": rates.per_core},
        ),
        Fact(
            "cores",
            f"{needed} for {target:,} images/s, 30 % to spare; "
            f"the {available} here feed about {min(read, decoded):,.0f} by {limit}",
            {"needed": needed, "available": available, "limit": limit},
        ),
        Fact(
            "settings",
            f"config.data.num_workers={workers} config.data.num_threads={threads}",
            {"num_workers": workers, "num_threads": threads},
        ),
    ]


def settings(needed: int, available: int) -> tuple[int, int]:
    """Worker processes, and threads of each, that are likely to be the best here."""
    if available <= _FEW_CORES:
        return 0, available
    return min(needed, available - 2), 1


def _plain(reading: dict[int, tuple[float, float]]) -> dict[str, Any]:
    return {
        str(number): {"records_per_second": records, "bytes_per_second": size}
        for number, (records, size) in reading.items()
    }
