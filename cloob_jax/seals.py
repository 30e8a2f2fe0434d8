"""By what a checkpoint that was damaged later is told from a whole one."""

import hashlib
import json
import os
from importlib import metadata
from typing import Any

import orbax.checkpoint as ocp

from cloob_jax import digests

_VERSIONS_OF = ("cloob_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain")


def describe(config: dict, data: dict | None, items: dict[str, Any]) -> dict[str, Any]:
    """The item `meta`: the config and the versions, sealed with all else.

    Args:
      config: JSON.
      data: the item `data`, JSON; None where there is none.
      items: name -> arrays.
    """
    meta: dict[str, Any] = {
        "config": config,
        "versions": {name: metadata.version(name) for name in _VERSIONS_OF},
        "digests": {name: digests.of_tree(item) for name, item in items.items()},
    }
    return meta | {"seal": _seal(meta, data)}


def _seal(meta: dict[str, Any], data: dict[str, Any] | None) -> str:
    sealed = {name: value for name, value in meta.items() if name != "seal"}
    text = json.dumps([sealed, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check(meta: dict[str, Any], data: dict[str, Any] | None) -> None:
    """Compares what was read with its seal, if it has one, as older ones do not.

    Raises:
      ValueError: it is not what was written.
    """
    if "seal" in meta and meta["seal"] != _seal(meta, data):
        raise ValueError("config, position or digests are not what was written")


def check_arrays(items: dict[str, Any], meta: dict[str, Any]) -> None:
    """Compares arrays with their digests, as far as there are any.

    Raises:
      ValueError: they are not what was written; names the first.
    """
    for name, item in items.items():
        written = meta.get("digests", {}).get(name)
        if written is None:
            continue
        found = digests.of_tree(item)
        wrong = [path for path, number in found.items() if written.get(path) != number]
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ValueError(f"{name}/{wrong[0]}{more}: not what was written")


def read_json(path: os.PathLike) -> dict[str, Any]:
    """An item that was written as JSON."""
    return ocp.JsonCheckpointHandler().restore(path)


def line(error: Exception) -> str:
    """What an error of Orbax says, in a line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
