"""Where commands keep what they can make again."""

import os
import tempfile
from pathlib import Path

from cloob_jax.errors import UserError


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
