"""Starting a run from the weights of another."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cloob_jax import inference, selection
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup
from cloob_jax.state import TrainState
from cloob_jax.weights import positions


def apply(state: TrainState, config: ConfigDict, group: ProcessGroup) -> TrainState:
    """A new run's state, with the parameters that `config.init_from` and its match say.

    Running statistics come with the scales of their norms. Positional embeddings are
    interpolated to another image size. A learned temperature is taken if the whole
    model is and the config does not give one.

    Args:
      state: new, on its devices.
      config: of the run.
      group: the processes of the run, which have to read the same weights.

    Raises:
      UserError: no weights are there, they are of another shape, or other processes
        read others.
    """
    if config.init_from is None:
        if config.init_match is not None:
            raise UserError(
                f"config.init_match={config.init_match} without config.init_from: say "
                "from where, or leave it"
            )
        return state
    _, weights = inference.read(Path(config.init_from))
    group.agree({"what is in config.init_from": _fingerprint(weights.params)})
    _check_meaning(weights.config, config)
    model = state.params["model"]
    chosen = selection.select(model, config.init_match, "config.init_match")
    if config.init_match is None:
        chosen = jax.tree.map(lambda _: True, model)
    model = _take(model, chosen, positions.resize(weights.params, model), config)
    batch_stats = _take_statistics(state.batch_stats, chosen, weights.batch_stats)
    objective = dict(state.params["objective"])
    if config.init_match is None and config.objective.inv_tau is None:
        for name in objective.keys() & weights.scalars.keys():
            placed = objective[name].sharding
            objective[name] = jax.device_put(weights.scalars[name], placed)
    params = {"model": model, "objective": objective}
    ema = None if state.ema is None else jax.tree.map(lambda leaf: leaf.copy(), params)
    return dataclasses.replace(state, params=params, batch_stats=batch_stats, ema=ema)


def _take(model: Any, chosen: Any, theirs: Any, config: ConfigDict) -> Any:
    """The parameters, with theirs where they are chosen.

    Raises:
      UserError: theirs are of another shape, or not there.
    """
    there, problems = selection.by_path(theirs), []

    def take(path: tuple, leaf: jax.Array, wanted: bool) -> jax.Array:
        if not wanted:
            return leaf
        name = _name(path)
        found = there[name].shape if name in there else "none"
        if found != leaf.shape:
            problems.append(f"{name} is {found} there, {leaf.shape} here")
            return leaf
        return jax.device_put(np.asarray(there[name], leaf.dtype), leaf.sharding)

    taken = jax.tree.map_with_path(take, model, chosen)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"config.init_from={config.init_from}: {problems[0]}{more}; give the same "
            "config.model, or config.init_match for a part that is alike"
        )
    return taken


def _take_statistics(batch_stats: Any, chosen: Any, theirs: Any) -> Any:
    """Those of each norm whose scale is chosen, without which they mean nothing."""
    there, wanted = selection.by_path(theirs), selection.by_path(chosen)

    def take(path: tuple, leaf: jax.Array) -> jax.Array:
        name = _name(path)
        is_wanted = wanted.get(f"{name.rpartition('/')[0]}/scale", False)
        return jax.device_put(there[name], leaf.sharding) if is_wanted else leaf

    return jax.tree.map_with_path(take, batch_stats)


def _check_meaning(theirs: dict[str, Any], ours: ConfigDict) -> None:
    """Refuses weights that fit by their shapes and mean something else.

    Raises:
      UserError: names the field.
    """
    quick_gelu = theirs["model"].get("quick_gelu", True)
    if quick_gelu != ours.model.quick_gelu:
        raise UserError(
            f"config.init_from={ours.init_from} was trained with config.model."
            f"quick_gelu={quick_gelu}; set it so"
        )
    is_file = theirs["data"].get("tokenizer") is not None
    if ours.init_match != "image" and is_file != (ours.data.tokenizer is not None):
        raise UserError(
            f"config.init_from={ours.init_from} was trained with "
            f"{'a' if is_file else 'no'} config.data.tokenizer of its own; give the "
            "same, or config.init_match=image"
        )
    if is_file and ours.init_match != "image":
        there, here = theirs["data"]["tokenizer"], ours.data.tokenizer
        if Path(there).read_bytes() != Path(here).read_bytes():
            raise UserError(
                f"config.data.tokenizer={here} is another than {there}, with which "
                f"config.init_from={ours.init_from} was trained"
            )


def _fingerprint(tree: Any) -> str:
    digest = hashlib.sha256()
    for name, leaf in selection.by_path(tree).items():
        digest.update(name.encode() + np.asarray(leaf).tobytes())
    return f"fingerprint {digest.hexdigest()[:16]}"


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
