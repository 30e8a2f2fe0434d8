"""The loop: the only file that sees everything."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cloob_jax import (
    autopsy,
    command_line,
    introduction,
    run_directory,
    step_flops,
    step_log,
    writers,
)
from cloob_jax.data import pipeline
from cloob_jax.errors import UserError
from cloob_jax.evaluators import Embedder, Evaluator, ZeroShot, results, samples
from cloob_jax.interruption import Interrupted
from cloob_jax.meter import Meter
from cloob_jax.observers import Wishes
from cloob_jax.process_group import ProcessGroup
from cloob_jax.pulse import Pulse
from cloob_jax.run import Run, set_up
from cloob_jax.state import TrainState


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    group: ProcessGroup | None = None,
    wishes: Wishes | None = None,
) -> None:
    """Trains from the start, or from what `workdir` holds, and evaluates at the end.

    Args:
      config: as `configs/common.py` describes it.
      workdir: the run directory, made if it is not there; or a bucket's URL.
      group: the processes of the run; None: this one alone.
      wishes: what a person wants to see of it, beside what is always written.

    Raises:
      UserError: whatever the user can mend; what was saved before stays.
    """
    group, pulse = group or ProcessGroup(), Pulse()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(run_directory.held(workdir, group))
        log = writers.Log(place.files if group.is_leader else None)
        stack.enter_context(contextlib.closing(log))
        run, state, examples_seen = set_up(
            config, place, group, log, pulse, wishes or Wishes(), stack
        )
        log.line(introduction.text(run, state, examples_seen))
        try:
            state, examples_seen = _train(run, state, examples_seen)
            run.wait()
            _evaluate(run, state, examples_seen, run.tests, final=True)
        except Interrupted:
            run.wait()
            step = run.checkpoints.latest_step()
            log.line(f"stopped; step {step} is saved, the same command goes on from it")
            run.end("stopped")
        except BaseException as error:
            run.end("failed", command_line.last_words(error, "")[0])
            raise
        else:
            run.end("finished")


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
    run.pulse.turn_to("step")

    def is_critical() -> bool:
        bad = run.bad_steps
        return bad.in_a_row > 0 or bad.is_lost or config.max_bad_steps == 0

    with contextlib.closing(feed):
        for step in range(done + 1, total_steps + 1):
            with meter.waiting(), run.pulse.during("data"):
                batch, arrays = next(feed)
            run.pulse.begin_step(step, batch["record"])
            run.profiler.begin(step)
            state, metrics = run.parts.train_step(state, arrays)
            examples_seen += config.batch_size
            # While it runs on the device, the step before is looked at.
            with run.pulse.during("exchange"):
                stop = _exchange(run, batch, examples_seen)
            run.profiler.end(step, metrics)
            if pending is not None:
                step_log.settle(run, meter, pending)
            pending = step_log.Pending(step, examples_seen, metrics, batch)

            last = step == total_steps
            due = {} if stop else run.due(step)
            save = last or stop or step % config.checkpoint_steps == 0
            save |= bool(due and config.keep_best)
            if save or due or is_critical():
                # No state is kept, and after a bad step none is left behind, before its
                # own step is known.
                step_log.settle(run, meter, pending)
                _check(run, state, pending)
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


def _check(run: Run, state: TrainState, settled: step_log.Pending) -> None:
    """Gives the run up after too many bad steps; `state` is that after the last.

    Raises:
      UserError: there were.
    """
    bad, limit = run.bad_steps, run.config.max_bad_steps
    if bad.in_a_row <= limit and not bad.is_lost:
        return
    folder = autopsy.write(run, state, settled.batch, settled.examples_seen)
    values = bad.history[-1]
    last = run.checkpoints.latest_step()
    what = "" if bad.is_lost else f", {bad.in_a_row} steps in a row (max_bad_steps)"
    raise UserError(
        f"step {settled.step}: loss {values['loss']:g}, gradient norm "
        f"{values['grad_norm']:g}, parameter norm {values['param_norm']:g}{what}; "
        f"batch, state and metrics are in {folder}, {folder / 'replay.sh'} replays the "
        f"step; the last checkpoint is {'none' if last is None else f'step {last}'}; "
        "look at these records, or start in another --workdir with a lower "
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

    def report(what: str, done: int, total: int) -> None:
        run.pulse.sign()
        run.log.progress(writers.count(what, done, total), False)

    embedder = Embedder(
        run.stop.interrupts(embed_images),
        run.stop.interrupts(embed_texts),
        tokenizer=run.parts.tokenizer,
        image_size=run.parts.model.image_size,
        batch_size=run.parts.part_size,
        report=report,
    )
    with run.pulse.during("evaluate"):
        found = {
            name: results.run_one(
                test,
                embedder,
                directory=run.eval_directory(step),
                model=run.config.model.name,
                pretrained=f"{run.place.shared.name}-{step}",
            )
            for name, test in tests.items()
        }
    values = results.open_clip_names(found)
    if run.metrics is not None and step not in run.metrics.evaluated:
        run.write(step, examples_seen, values)
    run.score(step, values)
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
    run.log.line(f"pictures with their captions: {run.place.shared / 'samples.png'}")
