"""What is told of each step once its metrics are there."""

import dataclasses
import math

import jax

from cloob_jax import writers
from cloob_jax.data import pipeline
from cloob_jax.meter import Meter
from cloob_jax.run import Run
from cloob_jax.step import Metrics


@dataclasses.dataclass(frozen=True)
class Pending:
    """A step that was dispatched, and whose metrics nobody has read yet."""

    step: int
    examples_seen: int
    metrics: Metrics
    batch: pipeline.HostBatch


def settle(run: Run, meter: Meter, pending: Pending) -> None:
    """Waits for a step's metrics, judges and shows them, and logs when it is time.

    Collective, for where something is wrong the processes name their records.
    """
    step, total_steps = pending.step, run.parts.total_steps
    values = {name: float(v) for name, v in jax.device_get(pending.metrics).items()}
    fault = run.bad_steps.check(step, values)
    if fault:
        _tell(run, pending, values, fault)
    meter.count()
    # The schedule goes by the steps that were taken.
    taken = step - run.bad_steps.skipped
    values |= meter.read() | {"lr": float(run.parts.schedule(max(taken - 1, 0)))}
    values |= _counts(run)
    keep = step % run.config.log_steps == 0 or step in (1, total_steps)
    if keep:
        meter.restart()
        if run.session is not None:
            values["goodput"] = run.session.write(step)["step"]
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
        # JSON has no word for what is not finite.
        finite = {name: v for name, v in values.items() if math.isfinite(v)}
        named = {f"train/{name}": value for name, value in finite.items()}
        run.metrics.write(step, pending.examples_seen, named)


def _counts(run: Run) -> dict[str, float]:
    """How much was bad so far, in process 0."""
    values = {
        "skipped_steps": float(run.bad_steps.skipped),
        "loss_spikes": float(run.bad_steps.spikes),
    }
    if run.bad is not None:
        values["bad_records"] = float(len(run.bad))
        for kind, count in run.bad.kinds.items():
            values[f"bad_records/{kind.replace(' ', '_')}"] = float(count)
    return values


def _tell(run: Run, pending: Pending, values: dict[str, float], fault: str) -> None:
    """Says and lists what is wrong with a step."""
    names = run.name_records(pending.batch)
    norms = ", ".join(
        f"{name.removeprefix('grad_norm/')} {value:.3g}"
        for name, value in sorted(values.items())
        if name.startswith("grad_norm/")
    )
    usual = ""
    if fault == "loss spike":
        usual = f" (usual: {run.bad_steps.usual_loss():.4g})"
    run.log.line(
        f"step {pending.step}: {fault}: loss {values['loss']:.4g}{usual}, gradient "
        f"norms {norms}; batch of {names[0]} and {len(names) - 1} more, listed in "
        f"{run.bad_steps.path}"
    )
    run.bad_steps.write(pending.step, fault, names)
