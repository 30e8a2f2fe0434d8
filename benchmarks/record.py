"""What the benchmarks share: an environment beside each number, a JSON line a run."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parent))  # the folder of configs, which is not installed


def append(name: str, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Adds a line to `results/NAME.jsonl`: what was asked, found, and on what."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {n: metadata.version(n) for n in ("jax", "jaxlib", "flax")},
        "settings": settings,
        "rows": rows,
    }
    path = _HERE / "results" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"added to {path}")


def _commit() -> str:
    """The commit, with a + where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, cwd=_HERE, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"
