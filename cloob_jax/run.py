"""A run: all that stays the same throughout it, and how that is set up."""

import contextlib
import dataclasses
import hashlib
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cloob_jax import (
    evaluators,
    program,
    resume,
    run_directory,
    sessions,
    sharding,
    writers,
)
from cloob_jax.bad_steps import BadSteps
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import mixture, pipeline, remote_files, shapes, sources
from cloob_jax.data.bad_records import BadRecords
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.interruption import Stop
from cloob_jax.process_group import ProcessGroup
from cloob_jax.pulse import Pulse
from cloob_jax.state import TrainState
from cloob_jax.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same throughout a run.

    `metrics`, `bad` and `session`, which write files, are there in process 0 alone.
    """

    config: ConfigDict
    workdir: Path
    group: ProcessGroup
    log: writers.Log
    parts: program.Program
    load: pipeline.LoadPair
    tests: Mapping[str, evaluators.Evaluator]
    checkpoints: Checkpoints
    stop: Stop
    pulse: Pulse
    bad_steps: BadSteps
    metrics: writers.MetricsWriter | None = None
    bad: BadRecords | None = None
    session: sessions.Record | None = None

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
    workdir: Path,
    group: ProcessGroup,
    log: writers.Log,
    pulse: Pulse,
    stack: contextlib.ExitStack,
) -> tuple[Run, TrainState, int]:
    """Opens everything, and finds where to start or to go on; collective.

    Args:
      config: as `configs/common.py` describes it.
      workdir: the run directory, held by this run.
      group: the processes of the run.
      log: where to tell of it.
      pulse: of this process.
      stack: closes what was opened.

    Returns:
      The run, the state and the examples seen.

    Raises:
      UserError: whatever the user can mend.
    """
    plain = resume.plain(config)
    _agree(plain, group)
    mesh = sharding.make_mesh(**config.mesh)
    parts = program.build(config, mesh)
    watch = stack.enter_context(
        Watchdog(pulse, group, log.line, config.hang_seconds, workdir / "stacks")
    )
    source, tests = _open_data(config, group, log)
    load = pipeline.LoadPair(
        source, parts.tokenizer, parts.model.image_size, config.data.resize
    )
    checkpoints = stack.enter_context(
        Checkpoints(
            workdir / "checkpoints", config.keep_checkpoints, config.keep_every_steps
        )
    )
    stack.enter_context(group.failing_together(checkpoints.is_saving))
    state, examples_seen = resume.start(
        checkpoints, parts, config, source, group, log.line
    )
    total_steps = program.num_steps(config, int(state.step), examples_seen)
    if total_steps != parts.total_steps:  # earlier batches were of another size
        parts = program.build(config, mesh, total_steps)
    run = Run(
        config=config,
        workdir=workdir,
        group=group,
        log=log,
        parts=parts,
        load=load,
        tests=tests,
        checkpoints=checkpoints,
        stop=stack.enter_context(Stop(group.any)),
        pulse=pulse,
        bad_steps=BadSteps(workdir, int(state.step), group.is_leader),
    )
    watch.names = run.names
    if group.is_leader:
        run = _with_files(run, int(state.step), examples_seen, stack)
    scores = run.metrics.column(config.keep_best) if run.metrics else {}
    checkpoints.scores |= dict(group.share(list(scores.items())))
    log.line(_introduction(run, state, examples_seen))
    return run, state, examples_seen


def _with_files(
    run: Run, step: int, examples_seen: int, stack: contextlib.ExitStack
) -> Run:
    """The same with what process 0 writes."""
    run_directory.describe(run.workdir, resume.plain(run.config))
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
    )


def _agree(plain: dict[str, Any], group: ProcessGroup) -> None:
    """Makes sure that all processes are joined, and were given the same config."""
    if jax.process_count() != group.size:
        raise UserError(
            f"JAX sees {jax.process_count()} processes, but they were not joined; give "
            "--coordinator_address, --num_processes and --process_id to each"
        )
    group.agree({f"config.{k}": v for k, v in resume.flat(plain).items()})


def _open_data(
    config: ConfigDict, group: ProcessGroup, log: writers.Log
) -> tuple[Source, dict[str, evaluators.Evaluator]]:
    """Draws and indexes what has to be, and makes sure that all see the same data."""
    # Where disks are shared, the others find what process 0 has made.
    with group.leader_first():
        _generate(config, log)
        data = config.data

        def report(done: int, total: int) -> None:
            log.progress(f"indexing {data.train}: {done}/{total}", done % 100 == 0)

        source = sources.build(data.train or "", data.columns, data.weights, report)
        beta = config.objective.beta or evaluators.PUBLISHED_BETA
        tests = evaluators.build(dict(config.evals.items()), beta=beta)
    found = {"config.data.train": source}
    found |= {f"config.evals.{n}": test.dataset.records for n, test in tests.items()}
    facts = {
        f"what is in {name}": f"{len(records)} records, fingerprint "
        f"{records.fingerprint}"
        for name, records in found.items()
    }
    if config.data.tokenizer is not None:
        content = Path(config.data.tokenizer).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        facts["what is in config.data.tokenizer"] = f"fingerprint {digest}"
    group.agree(facts)
    return source, tests


def _generate(config: ConfigDict, log: writers.Log) -> None:
    """Draws the embedded data set, once, where the config asks for it."""
    wanted = config.data.shapes
    if wanted is None:
        return

    def report(done: int, total: int) -> None:
        # Where there is no terminal, every tenth line says enough.
        keep = done % 10_000 == 0 or done == total
        log.progress(f"drawing {wanted.directory}: {done}/{total} scenes", keep)

    settings = wanted.to_dict()
    shapes.generate(Path(settings.pop("directory")), **settings, report=report)


def _introduction(run: Run, state: TrainState, examples_seen: int) -> str:
    """What is about to happen, in a few lines."""
    config, parts = run.config, run.parts
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = jax.devices()
    mesh = " x ".join(
        f"{axis} {size}" for axis, size in parts.batch_sharding.mesh.shape.items()
    )
    processes = f" in {run.group.size} processes" if run.group.size > 1 else ""
    step = int(state.step)
    num_examples = examples_seen + (parts.total_steps - step) * config.batch_size
    epochs = " and ".join(
        f"{e:.1f}" for e in mixture.epochs(run.load.source, num_examples)
    )
    lines = [
        f"{config.model.name}, {count / 1e6:.1f} million parameters, "
        f"{config.model.dtype}, attention by {parts.model.text.compute.attention}; "
        f"objective {config.objective.name} in the form {parts.objective_form}",
        f"{len(devices)} {devices[0].device_kind} device(s){processes}, mesh {mesh}; "
        f"run directory {run.workdir}",
        f"{len(run.load.source)} pairs from {config.data.train}; {parts.total_steps} "
        f"steps of {config.batch_size}, {epochs} epochs",
    ]
    if run.bad:
        lines.append(f"{len(run.bad)} bad records so far, listed in {run.bad.path}")
    if remote_files.is_remote(config.data.train) and config.data.shuffle == "global":
        lines.append(
            "every example is a request of its own: config.data.shuffle=window reads "
            "large pieces"
        )
    if config.init_from and not step:
        part = "" if config.init_match is None else f" ({config.init_match})"
        lines.append(f"starting from the weights of {config.init_from}{part}")
    if step:
        lines.append(f"going on after step {step}")
    return "\n".join(lines)
