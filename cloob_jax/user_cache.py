"""Where commands keep what they can make again."""

import hashlib
import os
import tempfile
from pathlib import Path

from cloob_jax.errors import UserError

_KIND_OF_PROCESSOR = ("model name", "flags", "Features", "CPU part")


def directory(name: str) -> Path:
    """A folder of that name in `$XDG_CACHE_HOME/cloob_jax`, else in a temporary one.

    Raises:
      UserError: neither can be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for candidate in (Path(base), Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"):
        found = candidate / "cloob_jax" / name
        try:
            found.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(found, os.W_OK):
            return found
    raise UserError(
        f"{base} cannot be written; set XDG_CACHE_HOME to a writable folder"
    )


def keep_compiled() -> None:
    """Lets JAX keep what it compiles, to be called before JAX is imported.

    Unless JAX_COMPILATION_CACHE_DIR says where. Machines with other processors, which
    may share a home, do not share what was compiled for their own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = sorted({line for line in lines if line.startswith(_KIND_OF_PROCESSOR)})
    except OSError:
        facts = []
    kind = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory("compiled") / kind)
    # Of tiny models hardly any program takes the second that JAX asks for.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
