"""A run: all that stays the same throughout it, and how that is set up."""

import contextlib
import dataclasses
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cloob_jax import (
    compilation,
    evaluators,
    observers,
    profiler,
    program,
    resume,
    run_data,
    run_directory,
    sessions,
    sharding,
    writers,
)
from cloob_jax.bad_steps import BadSteps
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import pipeline
from cloob_jax.data.bad_records import BadRecords
from cloob_jax.errors import UserError
from cloob_jax.interruption import Stop
from cloob_jax.notices import Notices
from cloob_jax.observers import Observer, Wishes
from cloob_jax.process_group import ProcessGroup
from cloob_jax.profiler import Profiler
from cloob_jax.pulse import Pulse
from cloob_jax.state import TrainState
from cloob_jax.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same throughout a run.

    `metrics`, `bad`, `session` and `observers` are there in process 0 alone.
    """

    config: ConfigDict
    place: run_directory.Place
    group: ProcessGroup
    log: writers.Log
    parts: program.Program
    load: pipeline.LoadPair
    tests: Mapping[str, evaluators.Evaluator]
    checkpoints: Checkpoints
    stop: Stop
    pulse: Pulse
    profiler: Profiler
    bad_steps: BadSteps
    metrics: writers.MetricsWriter | None = None
    bad: BadRecords | None = None
    session: sessions.Record | None = None
    observers: Sequence[Observer] = ()

    @property
    def workdir(self) -> Path:
        """Where files are written."""
        return self.place.files

    def due(self, step: int) -> dict[str, evaluators.Evaluator]:
        """The tests whose interval ends with this step, unless the run does too."""
        if step in (0, self.parts.total_steps):
            return {}
        steps = {
            name: self.config.evals[name].get("eval_steps") or self.config.eval_steps
            for name in self.tests
        }
        return {n: test for n, test in self.tests.items() if step % steps[n] == 0}

    def name_records(self, batch: pipeline.HostBatch) -> list[str]:
        """The records of the global batch, row by row; collective.

        Args:
          batch: this process's rows.
        """
        rows = pipeline.local_rows(self.parts.abstract_batch["text"])
        numbers = zip(rows.tolist(), batch["record"].tolist(), strict=True)
        parts = self.group.reduce([*numbers], list)
        # Processes that split a layer hold the same rows.
        by_row = dict(sorted((row, record) for part in parts for row, record in part))
        return self.names(by_row.values())

    def names(self, records: Iterable[int]) -> list[str]:
        """Shard and key of each record."""
        return [" ".join(self.load.source.name(int(record))) for record in records]

    def eval_directory(self, step: int) -> Path | None:
        """Where this process writes evaluations, if it does."""
        return self.workdir / "eval" / str(step) if self.group.is_leader else None

    def save(self, state: TrainState, examples_seen: int) -> None:
        """Starts to save the state and the place in the data."""
        position = resume.position(self.load.source, examples_seen)
        with self.pulse.during("save"):
            self.checkpoints.save(state, position, resume.plain(self.config))
        if self.session is not None:
            self.session.write(int(state.step))
        self.place.sync()

    def score(self, step: int, values: Mapping[str, float]) -> None:
        """Notes how good a step is, by `config.keep_best`."""
        name = self.config.keep_best
        if name in values:
            self.checkpoints.scores[step] = values[name]
        elif name:
            names = ", ".join(sorted(values)) or "none"
            self.log.line(
                f"config.keep_best={name} was not measured; there are {names}"
            )

    def write(self, step: int, examples_seen: int, values: Mapping[str, float]) -> None:
        """Tells all who want to know of metrics."""
        if self.metrics is not None:
            self.metrics.write(step, examples_seen, values)
        for observer in self.observers:
            observer.write(step, {"examples_seen": float(examples_seen), **values})

    def give_notice(self, reason: str) -> None:
        """Asks for the end, since this machine is about to be taken away."""
        self.log.line(f"{reason}: saving, to go on elsewhere")
        self.stop.request()

    def remember_scores(self) -> None:
        """Notes how good the steps of earlier sessions were; collective."""
        before = self.metrics.column(self.config.keep_best) if self.metrics else {}
        self.checkpoints.scores |= dict(self.group.share(list(before.items())))

    def wait(self) -> None:
        """Blocks until what was saved is on disk."""
        with self.pulse.during("save"):
            self.checkpoints.wait()

    def end(self, ended: str, message: str = "") -> None:
        """Writes how it has ended, see `sessions.Session`."""
        if self.session is not None:
            self.session.end(ended, message)


def set_up(
    config: ConfigDict,
    place: run_directory.Place,
    group: ProcessGroup,
    log: writers.Log,
    pulse: Pulse,
    wishes: Wishes,
    stack: contextlib.ExitStack,
) -> tuple[Run, TrainState, int]:
    """Opens everything, and finds where to start or to go on; collective.

    Args:
      config: as `configs/common.py` describes it.
      place: the run directory, held by this run.
      group: the processes of the run.
      log: where to tell of it.
      pulse: of this process.
      wishes: what a person wants to see.
      stack: closes what was opened.

    Returns:
      The run, the state and the examples seen.

    Raises:
      UserError: whatever the user can mend.
    """
    workdir = place.files
    profiled = profiler.parse(wishes.profile_steps)
    _agree(resume.plain(config), group)
    mesh = sharding.make_mesh(**config.mesh)
    parts = program.build(config, mesh)
    watch = stack.enter_context(
        Watchdog(pulse, group, log.line, config.hang_seconds, workdir / "stacks")
    )
    source, tests = run_data.find(config, group, log)
    compiled = compilation.begin(parts)  # and meanwhile read the checkpoint
    load = pipeline.LoadPair(
        source, parts.tokenizer, parts.model.image_size, config.data.resize
    )
    checkpoints = _open_checkpoints(config, place, group, stack)
    state, examples_seen = resume.start(
        checkpoints, parts, config, source, group, log.line
    )
    total_steps = program.num_steps(config, int(state.step), examples_seen)
    if total_steps != parts.total_steps:  # earlier batches were of another size
        compiled = compilation.begin(program.build(config, mesh, total_steps))
    run = Run(
        config=config,
        place=place,
        group=group,
        log=log,
        parts=compiled(),
        load=load,
        tests=tests,
        checkpoints=checkpoints,
        stop=stack.enter_context(Stop(group.any)),
        pulse=pulse,
        profiler=stack.enter_context(Profiler(profiled, workdir / "profile", log.line)),
        bad_steps=BadSteps(workdir, int(state.step), group.is_leader),
    )
    watch.names = run.names
    stack.enter_context(Notices(run.give_notice))
    if group.is_leader:
        run = _with_files(run, int(state.step), examples_seen, wishes, stack)
    run.remember_scores()
    return run, state, examples_seen


def _open_checkpoints(
    config: ConfigDict,
    place: run_directory.Place,
    group: ProcessGroup,
    stack: contextlib.ExitStack,
) -> Checkpoints:
    checkpoints = Checkpoints(
        place.shared / "checkpoints", config.keep_checkpoints, config.keep_every_steps
    )
    stack.enter_context(checkpoints)
    stack.enter_context(group.failing_together(checkpoints.is_saving))
    return checkpoints


def _with_files(
    run: Run,
    step: int,
    examples_seen: int,
    wishes: Wishes,
    stack: contextlib.ExitStack,
) -> Run:
    """The same with what process 0 writes."""
    plain = resume.plain(run.config)
    run_directory.describe(run.workdir, plain)
    told = observers.build(wishes, run.workdir, plain, run.pulse)
    for observer in told:
        stack.callback(observer.close)
    metrics = writers.MetricsWriter(run.workdir, step)
    stack.enter_context(contextlib.closing(metrics))
    max_fraction = run.config.data.max_bad_fraction
    return dataclasses.replace(
        run,
        metrics=metrics,
        bad=BadRecords(run.workdir, run.load, max_fraction, examples_seen),
        session=sessions.Record(
            run.workdir,
            run.pulse,
            step,
            host=socket.gethostname(),
            processes=run.group.size,
            devices=jax.device_count(),
            device_kind=jax.devices()[0].device_kind,
        ),
        observers=told,
    )


def _agree(plain: dict[str, Any], group: ProcessGroup) -> None:
    """Makes sure that all processes are joined, and were given the same config."""
    if jax.process_count() != group.size:
        raise UserError(
            f"JAX sees {jax.process_count()} processes, but they were not joined; give "
            "--coordinator_address, --num_processes and --process_id to each"
        )
    group.agree({f"config.{k}": v for k, v in resume.flat(plain).items()})
