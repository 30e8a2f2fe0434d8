"""What the environment has to say before JAX is imported."""

import hashlib
import os
from pathlib import Path

from cloob_jax import user_cache

_KIND_OF_PROCESSOR = ("model name", "flags", "Features", "CPU part")
_THREADS_A_DEVICE = 4


def prepare() -> None:
    """Sets what nobody else has set."""
    _keep_compiled()
    _allow_threads()


def _keep_compiled() -> None:
    """Lets JAX keep what it compiles, unless JAX_COMPILATION_CACHE_DIR says where.

    Machines with other processors, which may share a home, do not share what was
    compiled for their own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = sorted({line for line in lines if line.startswith(_KIND_OF_PROCESSOR)})
    except OSError:
        facts = []
    kind = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
    folder = user_cache.directory("compiled") / kind
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    # Of tiny models hardly any program takes the second that JAX asks for.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _allow_threads() -> None:
    """Gives XLA enough threads, where a CPU is to act as several devices.

    Each may hold one while it waits for another in a collective; with as many threads
    as cores, all of them may wait, after which XLA aborts.
    """
    devices = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and int(devices) > 1:
        threads = max(os.cpu_count() or 1, _THREADS_A_DEVICE * int(devices))
        os.environ.setdefault("NPROC", str(threads))
