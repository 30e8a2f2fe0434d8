"""Checkpoints by Orbax: asynchronous, atomic, restorable onto any mesh.

    checkpoints/STEP/params    parameters, running statistics, their average
    checkpoints/STEP/train     optimiser state and step
    checkpoints/STEP/data      examples seen, fingerprint of the data
    checkpoints/STEP/meta      config, versions that wrote it, digests of all

Orbax writes beside and renames, so that a kill at any moment leaves the previous
checkpoint as the latest. What was damaged later is found by the digests.
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from cloob_jax import echoes, retention, seals
from cloob_jax.errors import Outage, UserError
from cloob_jax.state import TrainState

# Old checkpoints go there in one piece: of one that is being deleted where it lies, a
# kill would leave a part, which would look like a checkpoint.
_REMOVED = ".removed"

_Read = TypeVar("_Read")


class Damaged(UserError):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for what it started.

    Attributes:
      scores: of evaluated steps; the best of those that are there stays.
    """

    def __init__(
        self, directory: os.PathLike, keep: int = 3, keep_every: int | None = None
    ):
        """Opens `directory`, creating it; removes what a killed save left there.

        Args:
          directory: the run's `checkpoints` folder, or one in a bucket.
          keep: how many of the latest stay.
          keep_every: see `retention.Rule`.
        """
        self.scores: dict[int, float] = {}

        self._stack = contextlib.ExitStack()
        self._directory = epath.Path(directory)
        self._is_local = "://" not in str(self._directory)
        if self._is_local:
            self._directory = self._directory.resolve()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=retention.Rule(keep, keep_every, self.scores),
            create=True,
            cleanup_tmp_directories=True,
            # A bucket cannot rename a folder in one piece.
            todelete_subdir=_REMOVED if self._is_local else None,
            async_options=ocp.AsyncOptions(barrier_sync_fn=_meet),
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._clear_removed()

    def __enter__(self) -> "Checkpoints":
        self._stack.enter_context(echoes.hushed())
        return self

    def __exit__(self, *_: object) -> None:
        # After an error that is already on its way, a second one would hide it.
        with contextlib.suppress(UserError):
            self.wait()
        self._manager.close()
        self._clear_removed()
        self._stack.close()

    def latest_step(self) -> int | None:
        """The step of the latest complete checkpoint."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def is_saving(self) -> bool:
        """Whether a save is under way; from any thread."""
        return self._manager.is_saving_in_progress()

    def can_go_on(self, step: int) -> bool:
        """Whether `step` is of a run, and not weights alone (`stored_weights.save`)."""
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
          Outage: the same, and the next try may succeed.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._clear_removed()
        self._check_room(state, step)
        items = _items(state)
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(items["params"]),  # type: ignore[call-arg]
            train=ocp.args.StandardSave(items["train"]),  # type: ignore[call-arg]
            data=ocp.args.JsonSave(data),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave(seals.describe(config, data, items)),  # type: ignore[call-arg]
        )
        # The error may be that of the save before, which went on meanwhile.
        with self._clear_errors(f"saving failed by step {step}"):
            self._manager.save(step, args=args, force=True)

    def _clear_removed(self) -> None:
        if jax.process_index() == 0 and self._is_local:
            shutil.rmtree(self._directory / _REMOVED, ignore_errors=True)

    def _check_room(self, state: TrainState, step: int) -> None:
        # Orbax would find out half-way, and say so in a hundred lines.
        if not self._is_local:
            return
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
        with self._clear_errors("the last save could not be finished"):
            self._manager.wait_until_finished()

    def describe(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The position in the data and the config that `step` was saved with.

        Raises:
          Damaged: they cannot be read, or are not what was written.
        """
        folder = self._directory / str(step)

        def read() -> tuple[dict[str, Any], dict[str, Any]]:
            data, meta = (seals.read_json(folder / name) for name in ("data", "meta"))
            seals.check(meta, data)
            return data, meta["config"]

        return self._unless_damaged(step, read)

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of `step`, laid out as `abstract` says.

        No process waits for another, so that what fails in one can be told to all.

        Args:
          step: of a complete checkpoint.
          abstract: shapes, types and shardings; the mesh may differ from the one that
            saved.

        Raises:
          Damaged: the files cannot be read, or are not what was written.
          UserError: they hold another model's state.
        """
        items, folder = _items(abstract), self._directory / str(step)
        handler = ocp.StandardCheckpointHandler()

        def read_shapes() -> dict[str, Any]:
            return {name: handler.metadata(folder / name).tree for name in items}

        def read() -> dict[str, Any]:
            args = {
                name: ocp.args.StandardRestore(item) for name, item in items.items()
            }  # type: ignore[call-arg]
            found = {
                name: handler.restore(folder / name, args=args[name]) for name in items
            }
            seals.check_arrays(found, seals.read_json(folder / "meta"))
            return found

        for name, found in self._unless_damaged(step, read_shapes).items():
            _check_shapes(f"{self._directory}: step {step}", items[name], found)
        restored = self._unless_damaged(step, read)
        # Orbax rebuilds containers by their names; the optimiser wants its own types.
        state = TrainState(**restored["params"], **restored["train"])
        return jax.tree.map(lambda _, leaf: leaf, abstract, state)

    def set_aside(self, step: int) -> epath.Path:
        """Moves a damaged checkpoint out of the way, for process 0 to do."""
        folder = self._directory.parent / "damaged"
        target, number = folder / str(step), 2
        while target.exists():
            target, number = folder / f"{step}.{number}", number + 1
        folder.mkdir(exist_ok=True)
        (self._directory / str(step)).rename(target)
        return target

    def reload(self) -> None:
        """Looks anew which steps are there."""
        self._manager.reload()

    def _unless_damaged(self, step: int, read: Callable[[], _Read]) -> _Read:
        try:
            return read()
        except Exception as error:  # Orbax and its storage raise many kinds
            reason = seals.line(error)
        raise Damaged(f"{self._directory}: step {step} is damaged: {reason}")

    @contextlib.contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and its storage raise many kinds
            steps = ", ".join(map(str, self._manager.all_steps())) or "none"
            told = f"{self._directory}: {what}: {seals.line(error)}. "
            # Orbax's time runs out, too, when a clock is set forward by half an hour.
            if not self._is_local or isinstance(error, TimeoutError):
                raise Outage(f"{told}Complete steps: {steps}") from error
            asked = "Is the disk full or read-only?"
            raise UserError(f"{told}{asked} Complete steps: {steps}") from error


def _check_shapes(where: str, wanted: Any, found: Any) -> None:
    """Compares a tree with what is stored, of which only shapes and types are read.

    Raises:
      UserError: it is another model's.
    """
    theirs = {_path(path): leaf for path, leaf in _leaves(found)}
    ours = {_path(path): leaf for path, leaf in _leaves(wanted)}
    for path in sorted(theirs.keys() | ours.keys()):
        there, here = (
            f"{tree[path].dtype}{list(tree[path].shape)}" if path in tree else "nothing"
            for tree in (theirs, ours)
        )
        if there != here:
            raise UserError(
                f"{where} holds another model: {path} is {there} there and {here} "
                "here; give the config that it was made with, or another --workdir"
            )


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _meet(*, key: str, timeout_ms: int) -> None:
    """A barrier of Orbax, for processes whose save has not failed."""
    # Those that have failed come here too, from a `finally`, and would wait for twenty
    # minutes: the others are at an earlier barrier.
    error = sys.exc_info()[1]
    if error is not None and threading.current_thread() is not threading.main_thread():
        raise error
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def _items(state: TrainState) -> dict[str, Any]:
    """What is stored apart; `params` can be restored alone."""
    return {
        "params": {
            "params": state.params,
            "batch_stats": state.batch_stats,
            "ema": state.ema,
        },
        "train": {"step": state.step, "opt_state": state.opt_state},
    }
