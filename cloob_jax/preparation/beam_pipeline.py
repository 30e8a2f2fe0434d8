"""The files of a conversion as the elements of an Apache Beam pipeline."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from etils import epath

from cloob_jax.data import sources
from cloob_jax.errors import UserError
from cloob_jax.preparation import shard_writing
from cloob_jax.preparation.destination import Destination
from cloob_jax.preparation.shard_writing import Job, Pack, Plan


def run(
    job: Job,
    pattern: str,
    columns: str | None,
    destination: Destination,
    numbers: Sequence[int],
    options: Sequence[str],
) -> None:
    """Writes files wherever the runner likes, and waits for the end.

    An element is the number of a file. Whether it is written once or, as runners do
    after a failure, twice: its bytes are the same, and it appears when it is whole.

    Args:
      job: what to write.
      pattern: of its source, which workers open themselves.
      columns: see `sources.build`.
      destination: where files go.
      numbers: of those to write.
      options: Beam's, such as `--runner=DataflowRunner`.

    Raises:
      UserError: the pipeline failed.
    """
    write = _WriteShard(pattern, columns, job.plan, job.pack, destination)
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            _ = (
                pipeline
                | "numbers" >> beam.Create(list(numbers), reshuffle=True)
                | "files" >> beam.ParDo(write)
            )
    except Exception as error:  # whatever a runner makes of a failure
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"the pipeline failed: {lines[-1]}") from error


class _WriteShard(beam.DoFn):
    def __init__(
        self,
        pattern: str,
        columns: str | None,
        plan: Plan,
        pack: Pack,
        destination: Destination,
    ):
        self._pattern, self._columns = pattern, columns
        self._plan, self._pack, self._destination = plan, pack, destination
        self._written = beam.metrics.Metrics.counter("pairs", "written")
        self._dropped = beam.metrics.Metrics.counter("pairs", "left out")

    def setup(self) -> None:
        # The source of another machine relies on an index that is not here.
        source = sources.build(self._pattern, self._columns)
        if source.fingerprint != self._plan.source:
            raise UserError(
                f"SOURCE={self._pattern} is not what it is where the pipeline was "
                "started; all workers have to see the same files"
            )
        self._job = Job(source, self._plan, self._pack)

    def process(self, number: int) -> Iterator[None]:
        # ArrayRecord's library writes local files only.
        with tempfile.TemporaryDirectory() as folder:
            tally = shard_writing.write(self._job, Path(folder), number, _say_nothing)
            self._destination.take(epath.Path(folder) / self._plan.name(number))
        self._destination.finish(number, tally)
        self._written.inc(tally.written)
        self._dropped.inc(len(tally.dropped))
        yield from ()


def _say_nothing(count: int) -> None:
    del count
