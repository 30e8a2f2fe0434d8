"""Weights without the rest of a run: written as its step 0, read from any step."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cloob_jax import echoes, seals
from cloob_jax.errors import UserError


def save(directory: Path, item: dict[str, Any], config: dict) -> None:
    """Writes step 0 of a run that has nothing but weights.

    Args:
      directory: the `checkpoints` folder, made here.
      item: `params` (`model` and `objective`), `batch_stats` and `ema`, as
        `Checkpoints` saves them.
      config: what `load` returns with them, JSON.

    Raises:
      UserError: they could not be written.
    """
    args = ocp.args.Composite(
        params=ocp.args.StandardSave(item),  # type: ignore[call-arg]
        meta=ocp.args.JsonSave(seals.describe(config, None, {"params": item})),  # type: ignore[call-arg]
    )
    try:
        with ocp.CheckpointManager(directory.resolve()) as manager:
            manager.save(0, args=args)
    except Exception as error:  # Orbax and its storage raise many kinds
        raise UserError(
            f"{directory}: the weights cannot be written: {seals.line(error)}. Is the "
            "disk full or read-only?"
        ) from error


def load(path: Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The weights of a run directory, or of one of its steps, into NumPy.

    Args:
      path: a run directory, whose latest step is meant, or its `checkpoints/STEP`.

    Returns:
      The step, the config that it was saved with, and the item `params`, see
      `save`.

    Raises:
      UserError: no checkpoint is there, or it is damaged.
    """
    run, wanted = run_and_step(path)
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{path}: no run directory; there is no {folder}")
    # Not through a manager, which would tidy up where a run may be writing.
    steps = sorted(ocp.utils.checkpoint_steps(folder))
    listed = ", ".join(map(str, steps)) or "none"
    if not steps or (wanted is not None and wanted not in steps):
        raise UserError(f"{path}: no such checkpoint; complete steps: {listed}")
    step = steps[-1] if wanted is None else wanted
    source = folder.resolve() / str(step)
    try:
        with echoes.hushed():
            item = _read_weights(source / "params")
        meta = seals.read_json(source / "meta")
        has_data = (source / "data").is_dir()
        seals.check(meta, seals.read_json(source / "data") if has_data else None)
        seals.check_arrays({"params": item}, meta)
    except Exception as error:  # Orbax and its storage raise many kinds
        raise UserError(
            f"{path}: step {step} cannot be read: {seals.line(error)}; complete steps: "
            f"{listed}"
        ) from error
    config = meta.get("config", {})
    if not {"model", "data", "objective"} <= config.keys() or "params" not in item:
        raise UserError(
            f"{path}: step {step} holds no weights of a run with its config"
        )
    return step, config, item


def _read_weights(folder: Path) -> dict[str, Any]:
    tree = ocp.PyTreeCheckpointHandler()
    shapes = tree.metadata(folder).tree
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return tree.restore(folder, restore_args=to_numpy)


def run_and_step(path: Path) -> tuple[Path, int | None]:
    """The run directory of a path, and the step where it is `checkpoints/STEP`."""
    whole = path.expanduser().resolve()
    if whole.name.isdecimal() and whole.parent.name == "checkpoints":
        return whole.parent.parent, int(whole.name)
    return path.expanduser(), None
