"""What is kept of a step that ended a run, and the same step once more.

autopsy/STEP/batch_PROCESS.npz   images, tokens and numbers of this process's rows
autopsy/STEP/records.json        the records by row of the global batch
autopsy/STEP/metrics.json        the metrics of the last steps, as text
autopsy/STEP/config.json         the config
autopsy/STEP/checkpoints/STEP    the state that the step met; that after it, where
                                 it was the parameters that ceased to be finite
autopsy/STEP/replay.sh           the command that replays the step
"""

import json
import math
import shlex
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cloob_jax import (
    bad_steps,
    program,
    resume,
    run_directory,
    sharding,
    writers,
)
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import pipeline
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup
from cloob_jax.run import Run
from cloob_jax.state import Params, TrainState
from cloob_jax.step import Batch

_MOST_ROWS = 20  # of the table of parameters


def write(
    run: Run, state: TrainState, batch: pipeline.HostBatch, examples_seen: int
) -> Path:
    """Keeps the step that was just skipped; collective.

    Args:
      run: whose step it is.
      state: after it; but for the count of steps, the state that it met.
      batch: this process's rows of its batch.
      examples_seen: its batch included.

    Returns:
      The folder of it.
    """
    step = int(state.step)
    folder = run.workdir / "autopsy" / str(step)
    names = run.name_records(batch)
    plain = resume.plain(run.config)
    if run.group.is_leader:
        run_directory.describe(folder, plain)
        writers.write_json(folder / "records.json", names)
        history = [bad_steps.as_text(values) for values in run.bad_steps.history]
        writers.write_json(folder / "metrics.json", history)
        command = shlex.join(["python", "-m", "cloob_jax.main", *sys.argv[1:]])
        command += f" --replay={shlex.quote(str(folder))}\n"
        writers.write_text(folder / "replay.sh", command)
    run.group.share()
    rows = pipeline.local_rows(run.parts.abstract_batch["text"])
    leaves = {name: batch[name] for name in run.parts.abstract_batch}
    path = folder / f"batch_{run.group.index}.npz"
    writers.write_arrays(path, {"rows": rows, "record": batch["record"], **leaves})
    shared = run.place.shared / "autopsy" / str(step) / "checkpoints"
    with Checkpoints(shared) as checkpoints:
        position = resume.position(run.load.source, examples_seen)
        checkpoints.save(state, position, plain)
        checkpoints.wait()
    return folder


def replay(config: ConfigDict, folder: Path, group: ProcessGroup) -> str:
    """The step of an autopsy once more, and where it is not finite; collective.

    Args:
      config: that of the run, or one that differs in what may be to blame.
      folder: as `write` has left it.
      group: the processes that do it; not necessarily as many as in the run.

    Returns:
      What there is to tell of it.

    Raises:
      UserError: the folder is no autopsy, or the config is of another model.
    """
    parts = program.build(config, sharding.make_mesh(**config.mesh))
    names, history, batch = _read(folder, parts.abstract_batch)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise UserError(f"--replay={folder}: it holds no checkpoint")
        state = checkpoints.restore(step, parts.abstract_state)
    arrays: Batch = {
        name: jax.make_array_from_callback(
            leaf.shape, leaf.sharding, batch[name].reshape(leaf.shape).__getitem__
        )
        for name, leaf in parts.abstract_batch.items()
    }
    metrics, gradients, _ = parts.gradients_of(state, arrays)
    values = {name: float(value) for name, value in metrics.items()}
    lines = [f"step {step} again:"]
    recorded = history[-1] if history else {}
    for name in sorted(values):
        before = f" (in the run {recorded[name]})" if name in recorded else ""
        lines.append(f"  {name} {values[name]:g}{before}")
    lines += ["", _table(gradients)]
    if "box" not in batch:
        lines += ["", _embeddings(parts, state, batch, names)]
    return "\n".join(lines)


def _read(
    folder: Path, abstract: dict[str, jax.ShapeDtypeStruct]
) -> tuple[list[str], list[dict[str, str]], dict[str, np.ndarray]]:
    """Names, metrics and the rows of the whole batch, whoever has written them."""
    try:
        names = json.loads((folder / "records.json").read_text(encoding="utf-8"))
        history = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        parts = [np.load(path) for path in sorted(folder.glob("batch_*.npz"))]
        batch = {}
        for name, leaf in abstract.items():
            inner = leaf.shape[abstract["text"].ndim - 1 :]
            whole = np.zeros((len(names), *inner), leaf.dtype)
            for part in parts:
                whole[part["rows"]] = part[name]
            batch[name] = whole
            found, wanted = whole.size, math.prod(leaf.shape)
            if found != wanted:
                raise ValueError(f"{len(names)} rows, but config.batch_size is another")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--replay={folder}: {error}; expected a folder autopsy/STEP of a run, and "
            "the config that it was made with"
        ) from None
    return names, history, batch


def _table(gradients: Params) -> str:
    """Norms of the gradients, those that are not finite first."""

    @jax.jit
    def measure(tree: Params) -> tuple[Params, Params]:
        bad = jax.tree.map(lambda leaf: jnp.sum(~jnp.isfinite(leaf)), tree)
        return jax.tree.map(lambda leaf: jnp.linalg.norm(leaf.ravel()), tree), bad

    norms, bad = jax.device_get(measure(gradients))
    found = [
        (
            jax.tree_util.keystr(path, simple=True, separator="/"),
            float(norm),
            int(count),
        )
        for (path, norm), count in zip(
            jax.tree_util.tree_leaves_with_path(norms),
            jax.tree.leaves(bad),
            strict=True,
        )
    ]
    found.sort(key=lambda row: (-row[2], -row[1]))
    rows = [[name, f"{norm:g}", str(count)] for name, norm, count in found[:_MOST_ROWS]]
    left = len(found) - len(rows)
    more = f"\nand {left} more" if left else ""
    header = ["gradient of", "norm", "entries not finite"]
    return writers.table(header, rows) + more


def _embeddings(
    parts: program.Program,
    state: TrainState,
    batch: dict[str, np.ndarray],
    names: list[str],
) -> str:
    """Which images and texts have embeddings that are not finite."""
    embed_images, embed_texts = parts.embedders(state)
    _, images = embed_images(batch["image"])
    bad = {"images": images, "texts": embed_texts(batch["text"])}
    lines = []
    for side, embeds in bad.items():
        rows = np.flatnonzero(~np.isfinite(embeds).all(axis=1))
        which = f": {', '.join(names[row] for row in rows[:10])}" if rows.size else ""
        lines.append(f"{rows.size} of {len(names)} {side} have no embedding{which}")
    return "\n".join(lines)
