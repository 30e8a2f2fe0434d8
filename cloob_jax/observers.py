"""Who is told of metrics besides the run directory: Prometheus, Weights & Biases."""

import dataclasses
import math
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cloob_jax import writers
from cloob_jax.errors import UserError
from cloob_jax.pulse import Pulse


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What a person wants to see of a run, which is no part of the experiment.

    Attributes:
      metrics_port: of Prometheus' endpoint: PORT, on loopback, or HOST:PORT.
      wandb: PROJECT or ENTITY/PROJECT.
      profile_steps: FIRST:END, see `profiler.parse`.
    """

    metrics_port: str | None = None
    wandb: str | None = None
    profile_steps: str | None = None


@runtime_checkable
class Observer(Protocol):
    """Hears of metrics."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a step."""
        ...

    def close(self) -> None:
        """There will be no more."""
        ...


def build(
    wishes: Wishes, workdir: Path, config: dict[str, Any], pulse: Pulse
) -> list[Observer]:
    """Those that were asked for.

    Args:
      wishes: of a person.
      workdir: the run directory.
      config: plain.
      pulse: of process 0.

    Raises:
      UserError: a port or a project that cannot be had.
    """
    found: list[Observer] = []
    if wishes.metrics_port is not None:
        found.append(_Prometheus(wishes.metrics_port, pulse))
    if wishes.wandb is not None:
        found.append(_Wandb(wishes.wandb, workdir, config))
    return found


class _Prometheus:
    """The last values as gauges, at http://HOST:PORT/metrics.

    `cloob_jax_train_loss` is `train/loss`; `cloob_jax_silent_seconds`, since something
    was last done, is there for alarms.
    """

    def __init__(self, where: str, pulse: Pulse):
        import prometheus_client

        host, _, port = where.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UserError(
                f"--metrics_port={where}: expected PORT, or HOST:PORT, such as 9090"
            )
        self._gauge = prometheus_client.Gauge
        self._registry = prometheus_client.CollectorRegistry()
        self._gauges: dict[str, prometheus_client.Gauge] = {}
        silent = self._of("silent_seconds", "since something was last done")
        silent.set_function(pulse.silent_seconds)
        self._of("step", "the last that was started").set_function(lambda: pulse.step)
        try:
            self._server, self._thread = prometheus_client.start_http_server(
                int(port), host or "127.0.0.1", self._registry
            )
        except (OSError, socket.gaierror) as error:
            raise UserError(
                f"--metrics_port={where}: {error.strerror or error}; give another port"
            ) from None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._of(name, name).set(value)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _of(self, name: str, words: str) -> Any:
        name = "cloob_jax_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        if name not in self._gauges:
            self._gauges[name] = self._gauge(name, words, registry=self._registry)
        return self._gauges[name]


class _Wandb:
    """A run of Weights & Biases, the same one when training goes on.

    WANDB_MODE=offline keeps it in the run directory, for `wandb sync`.
    """

    def __init__(self, project: str, workdir: Path, config: dict[str, Any]):
        try:
            import wandb
        except ImportError:
            raise UserError(
                "--wandb needs the extra wandb; pip install 'cloob_jax[wandb]'"
            ) from None
        entity, _, name = project.rpartition("/")
        try:
            self._run = wandb.init(
                entity=entity or None,
                project=name,
                name=workdir.name,
                id=_identity(workdir / "wandb_id"),
                resume="allow",
                dir=str(workdir),
                config=config,
            )
        except wandb.Error as error:  # no key, no network
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--wandb={project}: {reason}; log in with `wandb login`, or set "
                "WANDB_MODE=offline"
            ) from None
        # Steps that a kill has undone come again, which W&B's own count cannot do.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._run.log({"step": step, **finite})

    def close(self) -> None:
        self._run.finish()


def _identity(path: Path) -> str:
    """By which W&B knows the run again."""
    if not path.exists():
        writers.write_text(path, secrets.token_hex(8))
    return path.read_text(encoding="utf-8").strip()
