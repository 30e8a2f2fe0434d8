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
from cloob_jax.preparation.shard_writing import Plan


def run(
    pattern: str,
    columns: str | None,
    plan: Plan,
    destination: Destination,
    numbers: Sequence[int],
    options: Sequence[str],
) -> None:
    """Writes files wherever the runner likes, and waits for the end.

    An element is the number of a file. Whether it is written once or, as runners do
    after a failure, twice: its bytes are the same, and it appears when it is whole.

    Args:
      pattern: see `sources.build`; workers open it themselves.
      columns: see `sources.build`.
      plan: what the files are.
      destination: where they go.
      numbers: of those to write.
      options: Beam's, such as `--runner=DataflowRunner`.

    Raises:
      UserError: the pipeline failed.
    """
    write = _WriteShard(pattern, columns, plan, destination)
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
        self, pattern: str, columns: str | None, plan: Plan, destination: Destination
    ):
        self._pattern, self._columns = pattern, columns
        self._plan, self._destination = plan, destination
        self._written = beam.metrics.Metrics.counter("arrayrecord", "written")
        self._dropped = beam.metrics.Metrics.counter("arrayrecord", "left out")

    def setup(self) -> None:
        # A source of another machine tells of files of indices that are not here.
        self._source = sources.build(self._pattern, self._columns)
        if self._source.fingerprint != self._plan.source:
            raise UserError(
                f"SOURCE={self._pattern} is not what it is where the pipeline was "
                "started; all workers have to see the same files"
            )

    def process(self, number: int) -> Iterator[None]:
        name = self._plan.name(number)
        # ArrayRecord's library writes local files only.
        with tempfile.TemporaryDirectory() as folder:
            tally = shard_writing.write(
                self._source, self._plan, Path(folder), number, lambda count: None
            )
            self._destination.take(epath.Path(folder) / name)
        self._destination.finish(number, tally)
        self._written.inc(tally.written)
        self._dropped.inc(len(tally.dropped))
        yield from ()
