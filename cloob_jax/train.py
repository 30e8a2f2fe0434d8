"""The loop: the only file that sees everything."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from cloob_jax import run_directory, step_flops, writers
from cloob_jax.data import pipeline
from cloob_jax.errors import UserError
from cloob_jax.evaluators import Embedder, Evaluator, ZeroShot, results, samples
from cloob_jax.interruption import Interrupted
from cloob_jax.meter import Meter
from cloob_jax.process_group import ProcessGroup
from cloob_jax.run import Run, set_up
from cloob_jax.state import TrainState
from cloob_jax.step import Metrics


def train_and_evaluate(
    config: ConfigDict, workdir: Path, group: ProcessGroup | None = None
) -> None:
    """Trains from the start, or from what `workdir` holds, and evaluates at the end.

    Args:
      config: as `configs/common.py` describes it.
      workdir: the run directory, made if it is not there.
      group: the processes of the run; None: this one alone.

    Raises:
      UserError: whatever the user can mend; what was saved before stays.
    """
    group = group or ProcessGroup()
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_directory.held(workdir, group))
        log = writers.Log(workdir if group.is_leader else None)
        stack.enter_context(contextlib.closing(log))
        run, state, examples_seen = set_up(config, workdir, group, log, stack)
        try:
            state, examples_seen = _train(run, state, examples_seen)
            run.checkpoints.wait()
            _evaluate(run, state, examples_seen, run.tests, final=True)
        except Interrupted:
            run.checkpoints.wait()
            step = run.checkpoints.latest_step()
            log.line(f"stopped; step {step} is saved, the same command goes on from it")


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A step that was dispatched, and whose metrics nobody has read yet."""

    step: int
    examples_seen: int
    metrics: Metrics
    batch: pipeline.HostBatch


def _train(run: Run, state: TrainState, examples_seen: int) -> tuple[TrainState, int]:
    """The loop.

    Raises:
      Interrupted: a signal came; the state is being saved.
    """
    config, total_steps = run.config, run.parts.total_steps
    done = int(state.step)
    due = run.due(done)
    if due and not run.group.share(run.metrics and done in run.metrics.evaluated):
        # The run was stopped when this step was saved, but not evaluated.
        _evaluate(run, state, examples_seen, due)
    batches = pipeline.train_batches(
        run.load,
        batch_size=config.batch_size,
        examples_seen=examples_seen,
        seed=config.seed,
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
        shuffle=config.data.shuffle,
        rows=pipeline.local_rows(run.parts.abstract_batch["text"]),
        stall_seconds=config.data.stall_seconds,
        end=run.group.end,
    )
    feed = pipeline.place_on_mesh(batches, run.parts.abstract_batch)
    meter = Meter(config.batch_size, step_flops.seconds_at_peak(config))
    pending = None
    with contextlib.closing(feed):
        for step in range(done + 1, total_steps + 1):
            with meter.waiting():
                batch, arrays = next(feed)
            state, metrics = run.parts.train_step(state, arrays)
            examples_seen += config.batch_size
            # While it runs on the device, the step before is looked at.
            stop = _exchange(run, batch, examples_seen)
            _settle(run, meter, pending)
            pending = _Pending(step, examples_seen, metrics, batch)

            last = step == total_steps
            save = last or stop or step % config.checkpoint_steps == 0
            due = {} if stop else run.due(step)
            if save or due:
                # No state is kept before its step is known to be finite.
                _settle(run, meter, pending)
                pending = None
            if save:
                run.save(state, examples_seen)
            if due:
                try:
                    _evaluate(run, state, examples_seen, due)
                except Interrupted:
                    run.save(state, examples_seen)
                    raise
                meter.restart()
            if stop:
                raise Interrupted
    return state, examples_seen


def _exchange(run: Run, batch: pipeline.HostBatch, examples_seen: int) -> bool:
    """Whether any process is to stop; and the bad records of all are listed.

    Raises:
      UserError: too many records are bad.
    """

    def combine(values: list[tuple[bool, list[int]]]) -> tuple[bool, list[int]]:
        wishes, parts = zip(*values, strict=True)
        return any(wishes), [record for part in parts for record in part]

    bad = batch["bad"][batch["bad"] >= 0].tolist()
    stop, all_bad = run.group.reduce((run.stop.requested, bad), combine)
    if run.bad is not None:
        run.bad.check(np.array(all_bad, np.int64), examples_seen)
    return stop


def _settle(run: Run, meter: Meter, pending: _Pending | None) -> None:
    """Waits for a step's metrics, checks and shows them, and logs when it is time.

    Raises:
      UserError: the loss or the gradient is not finite.
    """
    if pending is None:
        return
    step, total_steps = pending.step, run.parts.total_steps
    values = {name: float(v) for name, v in jax.device_get(pending.metrics).items()}
    if not all(map(math.isfinite, values.values())):
        _refuse_non_finite(run, pending, values)
    meter.count()
    values |= meter.read() | {"lr": float(run.parts.schedule(step - 1))}
    if run.bad is not None:
        values["bad_records"] = float(len(run.bad))
        for kind, count in run.bad.kinds.items():
            values[f"bad_records/{kind.replace(' ', '_')}"] = float(count)
    keep = step % run.config.log_steps == 0 or step in (1, total_steps)
    if keep:
        meter.restart()
    mfu = f"MFU {values['mfu']:.0%}  " if "mfu" in values else ""
    run.log.progress(
        f"step {step}/{total_steps}  loss {values['loss']:.4f}  "
        f"lr {values['lr']:.1e}  "
        f"{values['samples_per_second']:.0f} images/s  "
        f"{mfu}waiting {values['data_wait_fraction']:.0%}  "
        f"left {writers.duration(meter.seconds_left(total_steps - step))}",
        keep,
    )
    if keep and run.metrics is not None:
        named = {f"train/{name}": value for name, value in values.items()}
        run.metrics.write(step, pending.examples_seen, named)


def _refuse_non_finite(
    run: Run, pending: _Pending, values: dict[str, float]
) -> NoReturn:
    # Each process knows its own rows.
    parts = run.group.reduce(pending.batch["record"].tolist(), list)
    records = [run.load.source.name(number) for part in parts for number in part]
    path = run.workdir / "non_finite_batch.json"
    # As text, since JSON has no word for what is not finite.
    metrics = {name: str(value) for name, value in values.items()}
    content = {"step": pending.step, "metrics": metrics, "records": records}
    if run.group.is_leader:
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
    run: Run,
    state: TrainState,
    examples_seen: int,
    tests: Mapping[str, Evaluator],
    final: bool = False,
) -> None:
    """Runs evaluators; at the end of a run it prints a table and draws samples.

    Raises:
      Interrupted: a signal came.
    """
    if not tests:
        return
    step = int(state.step)
    embed_images, embed_texts = run.parts.embedders(state)
    embedder = Embedder(
        run.stop.interrupts(embed_images),
        run.stop.interrupts(embed_texts),
        tokenizer=run.parts.tokenizer,
        image_size=run.parts.model.image_size,
        batch_size=run.parts.part_size,
        report=lambda *far: run.log.progress(writers.count(*far), False),
    )
    found = {
        name: results.run_one(
            test,
            embedder,
            directory=run.workdir / "eval" / str(step) if run.group.is_leader else None,
            model=run.config.model.name,
            pretrained=f"{run.workdir.name}-{step}",
        )
        for name, test in tests.items()
    }
    if run.metrics is not None and step not in run.metrics.evaluated:
        run.metrics.write(step, examples_seen, results.open_clip_names(found))
    if not final:
        run.log.line(f"step {step}: top-1 or recall@1: {results.headline(found)}")
        return
    run.log.line(results.tables(tests, found))
    zero_shot = [test for test in tests.values() if isinstance(test, ZeroShot)]
    if not zero_shot:
        return
    # The set with the most captions to choose from says most.
    test = max(zero_shot, key=lambda test: len(test.dataset.class_names))
    sheet = samples.draw(test, embedder)
    if run.group.is_leader:
        sheet.save(run.workdir / "samples.png")
    run.log.line(f"pictures with their captions: {run.workdir / 'samples.png'}")
