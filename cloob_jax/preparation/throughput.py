"""What the training pipeline really feeds here, with several settings."""

import dataclasses
import statistics
import time
from typing import Any

from cloob_jax.data import pipeline
from cloob_jax.writers import Progress, table

_BATCH_SIZE = 256
_WINDOWS = 3  # of time, each a rate of its own
_AS_GOOD = 0.97  # of the best: then less is better


@dataclasses.dataclass(frozen=True)
class Turn:
    """Images a second of one setting, window by window."""

    num_workers: int
    num_threads: int
    rates: list[float]

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


def settings(num_cores: int) -> list[tuple[int, int]]:
    """Worker processes and threads of each: none, half and all of the cores."""
    threads = sorted({1, 2, min(4, num_cores)})
    workers = sorted({max(1, num_cores // 2), max(1, num_cores - 2), num_cores})
    return [(0, number) for number in threads] + [(number, 1) for number in workers]


def measure(
    load: pipeline.LoadPair, num_cores: int, seconds: float, progress: Progress
) -> list[Turn]:
    """Runs the pipeline of training, without a device, in each setting.

    Args:
      load: makes an example of a record.
      num_cores: that there are.
      seconds: of each of three windows of time.
      progress: tells which setting is running.

    Raises:
      UserError: the source has too many bad records.
    """
    turns, began = [], time.monotonic()
    for workers, threads in settings(num_cores):
        what = f"workers {workers}, threads {threads}"
        progress.show(what, time.monotonic() - began)
        turns.append(Turn(workers, threads, _run(load, workers, threads, seconds)))
    return turns


def best(turns: list[Turn]) -> Turn:
    """The first, which is the smallest, that is about as fast as the fastest."""
    least = _AS_GOOD * max(turn.rate for turn in turns)
    return next(turn for turn in turns if turn.rate >= least)


def render(turns: list[Turn]) -> str:
    """A table, and what to set."""
    header = ("workers", "threads of each", "images/s", "lowest", "highest")
    rows = [
        [str(turn.num_workers), str(turn.num_threads or "")]
        + [f"{rate:,.0f}" for rate in (turn.rate, min(turn.rates), max(turn.rates))]
        for turn in turns
    ]
    chosen = best(turns)
    return (
        f"{table(header, rows)}\n\n"
        f"This machine can feed {chosen.rate:,.0f} images/s: "
        f"--config.data.num_workers={chosen.num_workers} "
        f"--config.data.num_threads={chosen.num_threads}"
    )


def report(turns: list[Turn]) -> dict[str, Any]:
    """The same, to be written as JSON."""
    return {
        "turns": [dataclasses.asdict(turn) for turn in turns],
        "best": dataclasses.asdict(best(turns)),
    }


def _run(
    load: pipeline.LoadPair, workers: int, threads: int, seconds: float
) -> list[float]:
    batches = pipeline.train_batches(
        load,
        batch_size=_BATCH_SIZE,
        examples_seen=0,
        seed=0,
        num_workers=workers,
        num_threads=threads,
    )
    try:
        # Until all workers run, and what was made meanwhile is used up.
        for _ in range(2 + threads + 3 * workers):
            next(batches)
        return [_rate(batches, seconds) for _ in range(_WINDOWS)]
    finally:
        batches.close()


def _rate(batches: pipeline.workers.Batches, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        next(batches)
        count += _BATCH_SIZE
    return count / (time.perf_counter() - start)
