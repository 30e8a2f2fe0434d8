"""How fast records are read and decoded here, and the cores that a rate needs."""

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cloob_jax.data import random_crop
from cloob_jax.data.augment import BadRecord
from cloob_jax.data.protocol import Source
from cloob_jax.preparation.findings import Fact
from cloob_jax.preparation.sample import drawn_caption
from cloob_jax.tokenizer import Tokenizer

_READERS = 8  # threads, of which most wait for the disk
_SPARE = 1.3  # what is left for uneven images, batches and the trainer
_FEW_CORES = 3  # up to which threads of the trainer are as fast as processes


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was measured, records in the random order of training.

    Attributes:
      reading: threads -> records a second and bytes a second, as they are cached.
      per_core: records read, cropped and tokenised in a second of one core.
    """

    reading: dict[int, tuple[float, float]]
    per_core: float


def num_cores() -> int:
    """The cores that this process may use."""
    # Not on macOS.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(
    source: Source, image_size: int, context_length: int, seconds: float
) -> Rates:
    """Reads and decodes for three times so many seconds."""
    reading = {number: _reading(source, number, seconds) for number in (1, _READERS)}
    tokenizer = Tokenizer(context_length)
    rng = np.random.default_rng(0)
    # The time of this thread alone: neither waiting nor other programs count.
    done, start = 0, time.thread_time()
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or not done:
        try:
            encoded, text = source[int(rng.integers(len(source)))]
            tokenizer(drawn_caption(text, rng)[0])
            random_crop.fast(encoded, image_size, rng)
        except (BadRecord, OSError):
            if time.perf_counter() > deadline:
                break
        else:
            done += 1
    return Rates(reading, done / max(time.thread_time() - start, 1e-9))


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


def facts(rates: Rates, target: int, image_size: int, available: int) -> list[Fact]:
    """The rates, the cores for `target` images a second, and what to set here."""
    if not rates.per_core:
        return []
    needed = math.ceil(_SPARE * target / rates.per_core)
    read = max(records for records, _ in rates.reading.values())
    decoded = rates.per_core * available
    limit = "reading" if read < decoded else "decoding"
    workers, threads = settings(needed, available)
    reading = ", ".join(
        f"{records:,.0f} records/s ({size / 1e6:,.0f} MB/s) in {_threads(number)}"
        for number, (records, size) in rates.reading.items()
    )
    return [
        Fact(
            "reading",
            f"{reading}, as cached now",
            {_threads(n): list(each) for n, each in rates.reading.items()},
        ),
        Fact(
            "decoding",
            f"{rates.per_core:,.0f} images/s a core, cropped to {image_size}",
            {"images_per_second_and_core": rates.per_core},
        ),
        Fact(
            "cores",
            f"{needed} for {target:,} images/s; here are {available}, about "
            f"{min(read, decoded):,.0f} images/s, limited by {limit}",
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


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"
