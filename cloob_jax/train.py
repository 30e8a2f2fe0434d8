"""The loop: the only file that sees everything."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import jax
from ml_collections import ConfigDict

from cloob_jax import evaluators, program, resume, run_directory, sharding, writers
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import pipeline, shapes, sources
from cloob_jax.data.bad_records import BadRecords
from cloob_jax.errors import UserError
from cloob_jax.evaluators import results, samples
from cloob_jax.interruption import Interrupted, Stop
from cloob_jax.meter import Meter
from cloob_jax.state import TrainState
from cloob_jax.step import Metrics


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Trains from the start, or from what `workdir` holds, and evaluates at the end.

    Args:
      config: as `configs/common.py` describes it.
      workdir: the run directory, made if it is not there.

    Raises:
      UserError: whatever the user can mend; what was saved before stays.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_directory.held(workdir))
        log = stack.enter_context(contextlib.closing(writers.Log(workdir)))
        run, state, examples_seen = _set_up(config, workdir, log, stack)
        try:
            state, examples_seen = _train(run, state, examples_seen)
            run.checkpoints.wait()
            _evaluate(run, state, examples_seen, final=True)
        except Interrupted:
            run.checkpoints.wait()
            step = run.checkpoints.latest_step()
            log.line(f"stopped; step {step} is saved, the same command goes on from it")


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same throughout a run."""

    config: ConfigDict
    workdir: Path
    log: writers.Log
    parts: program.Program
    source: sources.Source
    load: pipeline.LoadPair
    bad: BadRecords
    tests: Mapping[str, evaluators.ZeroShot]
    checkpoints: Checkpoints
    metrics: writers.MetricsWriter
    stop: Stop

    def save(self, state: TrainState, examples_seen: int) -> None:
        position = resume.position(self.source, examples_seen)
        self.checkpoints.save(state, position, resume.plain(self.config))


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A step that was dispatched, and whose metrics nobody has read yet."""

    step: int
    examples_seen: int
    metrics: Metrics
    batch: pipeline.HostBatch


def _set_up(
    config: ConfigDict, workdir: Path, log: writers.Log, stack: contextlib.ExitStack
) -> tuple[_Run, TrainState, int]:
    parts = program.build(config, sharding.make_mesh(**config.mesh))
    _generate(config, log)
    source = sources.build(config.data.train)
    load = pipeline.LoadPair(source, parts.tokenizer, parts.model.image_size)
    tests = evaluators.build(
        config.evals,
        tokenizer=parts.tokenizer,
        image_size=parts.model.image_size,
        batch_size=config.batch_size,
    )
    checkpoints = stack.enter_context(
        Checkpoints(workdir / "checkpoints", config.keep_checkpoints)
    )
    state, examples_seen = resume.start(checkpoints, parts, config, source)
    run_directory.describe(workdir, resume.plain(config))
    metrics = writers.MetricsWriter(workdir, int(state.step))
    run = _Run(
        config=config,
        workdir=workdir,
        log=log,
        parts=parts,
        source=source,
        load=load,
        bad=BadRecords(workdir, load, config.data.max_bad_fraction, examples_seen),
        tests=tests,
        checkpoints=checkpoints,
        metrics=stack.enter_context(contextlib.closing(metrics)),
        stop=stack.enter_context(Stop()),
    )
    log.line(_introduction(run, state))
    return run, state, examples_seen


def _train(run: _Run, state: TrainState, examples_seen: int) -> tuple[TrainState, int]:
    """The loop.

    Raises:
      Interrupted: a signal came; the state is being saved.
    """
    config, total_steps = run.config, run.parts.total_steps
    done = int(state.step)
    is_due = 0 < done < total_steps and done % config.eval_steps == 0
    if is_due and done not in run.metrics.evaluated:
        # The run was stopped when this step was saved, but not evaluated.
        _evaluate(run, state, examples_seen)
    batches = pipeline.train_batches(
        run.load,
        batch_size=config.batch_size,
        examples_seen=examples_seen,
        seed=config.seed,
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        accumulate_steps=config.accumulate_steps,
    )
    feed = pipeline.place_on_mesh(batches, run.parts.batch_sharding)
    meter = Meter(config.batch_size)
    pending = None
    with contextlib.closing(feed):
        for step in range(done + 1, total_steps + 1):
            with meter.waiting():
                batch, arrays = next(feed)
            state, metrics = run.parts.train_step(state, arrays)
            examples_seen += config.batch_size
            # The step before is looked at while this one runs on the device.
            _settle(run, meter, pending)
            pending = _Pending(step, examples_seen, metrics, batch)

            last, stop = step == total_steps, run.stop.requested
            save = last or stop or step % config.checkpoint_steps == 0
            evaluate = not last and not stop and step % config.eval_steps == 0
            if save or evaluate:
                # No state is kept before its step is known to be finite.
                _settle(run, meter, pending)
                pending = None
            if save:
                run.save(state, examples_seen)
            if evaluate:
                try:
                    _evaluate(run, state, examples_seen)
                except Interrupted:
                    run.save(state, examples_seen)
                    raise
                meter.restart()
            if stop:
                raise Interrupted
    return state, examples_seen


def _settle(run: _Run, meter: Meter, pending: _Pending | None) -> None:
    """Waits for a step's metrics, checks and shows them, and logs when it is time.

    Raises:
      UserError: the loss or the gradient is not finite, or too many records are bad.
    """
    if pending is None:
        return
    step, total_steps = pending.step, run.parts.total_steps
    values = {name: float(v) for name, v in jax.device_get(pending.metrics).items()}
    run.bad.check(pending.batch["bad"], pending.examples_seen)
    if not all(map(math.isfinite, values.values())):
        _refuse_non_finite(run, pending, values)
    meter.count()
    values |= meter.read() | {"lr": float(run.parts.schedule(step - 1))}
    values["bad_records"] = float(len(run.bad))
    keep = step % run.config.log_steps == 0 or step in (1, total_steps)
    if keep:
        meter.restart()
    run.log.progress(
        f"step {step}/{total_steps}  loss {values['loss']:.4f}  "
        f"lr {values['lr']:.1e}  "
        f"{values['samples_per_second']:.0f} images/s  "
        f"waiting {values['data_wait_fraction']:.0%}  "
        f"left {writers.duration(meter.seconds_left(total_steps - step))}",
        keep,
    )
    if keep:
        named = {f"train/{name}": value for name, value in values.items()}
        run.metrics.write(step, pending.examples_seen, named)


def _refuse_non_finite(
    run: _Run, pending: _Pending, values: dict[str, float]
) -> NoReturn:
    records = [run.source.name(int(number)) for number in pending.batch["record"].flat]
    path = run.workdir / "non_finite_batch.json"
    # As text, since JSON has no word for what is not finite.
    metrics = {name: str(value) for name, value in values.items()}
    content = {"step": pending.step, "metrics": metrics, "records": records}
    writers.write_json(path, content)
    shard, key = records[0]
    last = run.checkpoints.latest_step()
    raise UserError(
        f"step {pending.step}: loss {values['loss']}, gradient norm "
        f"{values['grad_norm']}, parameter norm {values['param_norm']}, on the batch "
        f"of {shard} {key} and {len(records) - 1} more, listed in {path}; the last "
        f"checkpoint is {'none' if last is None else f'step {last}'}; look at these "
        "records, or start in another --workdir with a lower "
        "config.optim.learning_rate or with config.optim.grad_clip_norm"
    )


def _evaluate(
    run: _Run, state: TrainState, examples_seen: int, final: bool = False
) -> None:
    """Runs the evaluators; at the end of a run it prints a table and draws samples.

    Raises:
      Interrupted: a signal came.
    """
    if not run.tests:
        return
    step = int(state.step)
    embed_images, embed_texts = map(run.stop.interrupts, run.parts.embedders(state))
    found = results.run_all(
        run.tests,
        embed_images,
        embed_texts,
        directory=run.workdir / "eval" / str(step),
        model=run.config.model.name,
        pretrained=f"{run.workdir.name}-{step}",
    )
    if step not in run.metrics.evaluated:
        run.metrics.write(step, examples_seen, results.open_clip_names(found))
    if not final:
        best = ", ".join(f"{k} {v['acc1']:.1%}" for k, v in found.items())
        run.log.line(f"step {step}: zero-shot top-1: {best}")
        return
    run.log.line(results.table(run.tests, found))
    # The set with the most captions to choose from says most.
    test = max(run.tests.values(), key=lambda test: len(test.dataset.class_names))
    sheet = samples.draw(test, embed_images, embed_texts)
    sheet.save(run.workdir / "samples.png")
    run.log.line(f"pictures with their captions: {run.workdir / 'samples.png'}")


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


def _introduction(run: _Run, state: TrainState) -> str:
    """What is about to happen, in a few lines."""
    config, parts = run.config, run.parts
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = jax.devices()
    mesh = " x ".join(
        f"{axis} {size}" for axis, size in parts.batch_sharding.mesh.shape.items()
    )
    step = int(state.step)
    epochs = parts.total_steps * config.batch_size / len(run.source)
    lines = [
        f"{config.model.name}, {count / 1e6:.1f} million parameters, "
        f"{config.model.dtype}, attention by {parts.model.text.compute.attention}; "
        f"objective {config.objective.name} in the form {parts.objective_form}",
        f"{len(devices)} {devices[0].device_kind} device(s), mesh {mesh}; "
        f"run directory {run.workdir}",
        f"{len(run.source)} pairs from {config.data.train}; {parts.total_steps} steps "
        f"of {config.batch_size}, {epochs:.1f} epochs",
    ]
    if len(run.bad):
        lines.append(f"{len(run.bad)} bad records so far, listed in {run.bad.path}")
    if config.init_from and not step:
        part = "" if config.init_match is None else f" ({config.init_match})"
        lines.append(f"starting from the weights of {config.init_from}{part}")
    if step:
        lines.append(f"going on after step {step}")
    return "\n".join(lines)
