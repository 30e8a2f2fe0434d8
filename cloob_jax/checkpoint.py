"""Checkpoints by Orbax: asynchronous, atomic, restorable onto any mesh.

    checkpoints/STEP/params    parameters, running statistics, their average
    checkpoints/STEP/train     optimiser state and step
    checkpoints/STEP/data      examples seen, fingerprint of the data
    checkpoints/STEP/meta      the config and the versions that wrote it

Orbax writes beside and renames, so that a kill at any moment leaves the previous
checkpoint as the latest.
"""

import contextlib
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cloob_jax.errors import UserError
from cloob_jax.state import TrainState

_WRITING = "Is the disk full or read-only?"
_READING = (
    "It was made by another model, or is damaged: remove its folder to go on from an "
    "earlier step."
)
_VERSIONS_OF = ("cloob_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain")


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for what it started."""

    def __init__(self, directory: Path, keep: int = 3):
        """Opens `directory`, creating it; removes what a killed save left there.

        Args:
          directory: the run's `checkpoints` folder.
          keep: how many of the latest stay.
        """
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True
        )
        self._directory = directory.resolve()
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # After an error that is already on its way, a second one would hide it.
        with contextlib.suppress(UserError):
            self.wait()
        self._manager.close()

    def latest_step(self) -> int | None:
        """The step of the latest complete checkpoint."""
        return self._manager.latest_step()

    def is_saving(self) -> bool:
        """Whether a save is under way; from any thread."""
        return self._manager.is_saving_in_progress()

    def can_go_on(self, step: int) -> bool:
        """Whether `step` is of a run, and not weights alone (`save_weights`)."""
        return (self._directory / str(step) / "train").is_dir()

    def save(self, state: TrainState, data: dict[str, Any], config: dict) -> None:
        """Starts to write `state`; returns when it is copied, before it is on disk.

        A step that is there already is left as it is.

        Args:
          state: may be donated right after.
          data: the position in the data, JSON.
          config: for the comparison when the run goes on, JSON.

        Raises:
          UserError: this or the previous save could not be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._check_room(state, step)
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(_params_item(state)),  # type: ignore[call-arg]
            train=ocp.args.StandardSave(_train_item(state)),  # type: ignore[call-arg]
            data=ocp.args.JsonSave(data),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave({"config": config, "versions": _versions()}),  # type: ignore[call-arg]
        )
        # The error may be that of the save before, which went on meanwhile.
        with self._clear_errors(f"saving failed by step {step}", _WRITING):
            self._manager.save(step, args=args, force=True)

    def _check_room(self, state: TrainState, step: int) -> None:
        # Orbax would find out half-way, and say so in a hundred lines.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            last = self.latest_step()
            raise UserError(
                f"{self._directory}: step {step} needs {needed / 1e6:.0f} MB, but the "
                f"disk has {free / 1e6:.0f} MB left; free some space and start again; "
                f"the last checkpoint is {'none' if last is None else f'step {last}'}"
            )

    def wait(self) -> None:
        """Blocks until what was started is on disk.

        Raises:
          UserError: it could not be written.
        """
        with self._clear_errors("the last save could not be finished", _WRITING):
            self._manager.wait_until_finished()

    def describe(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The position in the data and the config that `step` was saved with."""
        args = ocp.args.Composite(
            data=ocp.args.JsonRestore(), meta=ocp.args.JsonRestore()
        )
        with self._clear_errors(f"step {step} cannot be read", _READING):
            restored = self._manager.restore(step, args=args)
            return restored["data"], restored["meta"]["config"]

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of `step`, laid out as `abstract` says.

        Args:
          step: of a complete checkpoint.
          abstract: shapes, types and shardings; the mesh may differ from the one that
            saved.

        Raises:
          UserError: the files are damaged, or hold another model's state.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(_params_item(abstract)),  # type: ignore[call-arg]
            train=ocp.args.StandardRestore(_train_item(abstract)),  # type: ignore[call-arg]
        )
        with self._clear_errors(f"step {step} cannot be restored", _READING):
            restored = self._manager.restore(step, args=args)
        # Orbax rebuilds containers by their names; the optimiser wants its own types.
        items = {**restored["params"], **restored["train"]}
        return jax.tree.map(lambda _, leaf: leaf, abstract, TrainState(**items))

    @contextlib.contextmanager
    def _clear_errors(self, what: str, advice: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and its storage raise many kinds
            steps = ", ".join(map(str, self._manager.all_steps())) or "none"
            raise UserError(
                f"{self._directory}: {what}: {_line(error)}. {advice} Complete "
                f"steps: {steps}"
            ) from error


def save_weights(directory: Path, item: dict[str, Any], config: dict) -> None:
    """Writes step 0 of a run that has nothing but weights.

    Args:
      directory: the `checkpoints` folder, made here.
      item: `params` (`model` and `objective`), `batch_stats` and `ema`, as
        `Checkpoints` saves them.
      config: what `load_weights` returns with them, JSON.

    Raises:
      UserError: they could not be written.
    """
    args = ocp.args.Composite(
        params=ocp.args.StandardSave(item),  # type: ignore[call-arg]
        meta=ocp.args.JsonSave({"config": config, "versions": _versions()}),  # type: ignore[call-arg]
    )
    try:
        with ocp.CheckpointManager(directory.resolve()) as manager:
            manager.save(0, args=args)
    except Exception as error:  # Orbax and its storage raise many kinds
        raise UserError(
            f"{directory}: the weights cannot be written: {_line(error)}. {_WRITING}"
        ) from error


def load_weights(path: Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The weights of a run directory, or of one of its steps, into NumPy.

    Args:
      path: a run directory, whose latest step is meant, or its `checkpoints/STEP`.

    Returns:
      The step, the config that it was saved with, and the item `params`, see
      `save_weights`.

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
        tree = ocp.PyTreeCheckpointHandler()
        shapes = tree.metadata(source / "params").tree
        to_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes
        )
        item = tree.restore(source / "params", restore_args=to_numpy)
        meta = ocp.JsonCheckpointHandler().restore(source / "meta")
    except Exception as error:  # Orbax and its storage raise many kinds
        raise UserError(
            f"{path}: step {step} cannot be read: {_line(error)}; complete steps: "
            f"{listed}"
        ) from error
    config = meta.get("config", {})
    if not {"model", "data", "objective"} <= config.keys() or "params" not in item:
        raise UserError(
            f"{path}: step {step} holds no weights of a run with its config"
        )
    return step, config, item


def run_and_step(path: Path) -> tuple[Path, int | None]:
    """The run directory of a path, and the step where it is `checkpoints/STEP`."""
    whole = path.expanduser().resolve()
    if whole.name.isdecimal() and whole.parent.name == "checkpoints":
        return whole.parent.parent, int(whole.name)
    return path.expanduser(), None


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _VERSIONS_OF}


def _params_item(state: TrainState) -> dict[str, Any]:
    return {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "ema": state.ema,
    }


def _train_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}
