"""Asks for a plan's facts: of the cache, or of a process that compiles."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloob_jax import user_cache, writers
from cloob_jax.errors import UserError
from cloob_jax.planning.topology import Topology

Facts = dict[str, Any]
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")
_POLL_SECONDS = 0.2


def facts(
    config: dict[str, Any], topology: Topology, report: Callable[[float], None]
) -> Facts:
    """What `aot.measure` says of the config's train step on that slice.

    An answer is kept in the user's cache, by all that it depends on: the config, the
    slice, the versions, this package's source, and what the environment tells XLA.

    Args:
      config: plain, as JSON gives it back.
      topology: the slice.
      report: called a few times a second with the seconds that compiling has taken.

    Raises:
      UserError: there is no compiler for TPUs, it broke down, or what `aot.measure`
        refuses.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "the compiler for TPUs (libtpu) is not installed: "
            "pip install 'cloob_jax[tpu]'; no TPU is needed"
        )
    request = {"config": config, "topology": topology.name}
    file = user_cache.directory("plan") / f"{_identity(request)}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(file.read_text())
        if isinstance(kept, dict) and "fits" in kept:
            return kept
    began = time.monotonic()
    answer = _compile(request, report)
    if "error" in answer:
        raise UserError(answer["error"])
    answer["compile_seconds"] = round(time.monotonic() - began, 1)
    answer["versions"] = _versions()
    with contextlib.suppress(OSError):  # what took minutes is not lost to a full disk
        writers.write_json(file, answer)
    return answer


def _identity(request: dict[str, Any]) -> str:
    source = Path(__file__).parent.parent
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(source.rglob("*.py"))
    ]
    told = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("XLA_", "JAX_", "LIBTPU_"))
    }
    everything = [request, _versions(), digests, told]
    text = json.dumps(everything, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _compile(request: dict[str, Any], report: Callable[[float], None]) -> Facts:
    """Runs the compiler in a process of its own, and ends it when this one is ended."""
    with tempfile.TemporaryDirectory(prefix="cloob_jax-plan-") as folder:
        asked, answer, noise = (Path(folder) / n for n in ("asked", "answer", "noise"))
        asked.write_text(json.dumps(request))
        command = [
            sys.executable,
            "-m",
            "cloob_jax.planning.aot",
            str(asked),
            str(answer),
        ]
        began = time.monotonic()
        with noise.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            while process.poll() is None:
                report(time.monotonic() - began)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        if not answer.exists():
            lines = noise.read_text(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            raise UserError(
                f"the compiler ended with status {process.returncode} and no answer, "
                f"saying: {said[-1][:500] if said else 'nothing'}"
            )
        return json.loads(answer.read_text())
