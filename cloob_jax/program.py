"""From a config and a mesh to everything that is compiled.

`train` runs it, and whoever restores a checkpoint restores into its abstract state.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cloob_jax import (
    architecture,
    embedding,
    models,
    objectives,
    optim,
    selection,
    sharding,
    step,
    validation,
)
from cloob_jax.data import random_crop
from cloob_jax.embedding import EmbedImages, EmbedTexts
from cloob_jax.errors import UserError
from cloob_jax.state import Params, TrainState
from cloob_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled parts of a run, and what they were made of.

    Attributes:
      model: the encoders.
      tokenizer: of the text encoder.
      objective_form: how the objective is computed, see `objectives.build`.
      total_steps: of the whole run.
      schedule: step -> learning rate.
      abstract_state: shapes, types and shardings of the state.
      abstract_batch: `image` and `text` likewise, see `step.train_step`.
      batch_sharding: of both; its mesh is the run's.
      init: () -> state, a function of the seed alone.
      train_step: (state, batch) -> (state, metrics), donating the state.
      gradients_of: what such a step goes by, see `step.gradients_of`.
      part_size: examples that the encoders take at a time, in evaluations as well.
      embedders: state -> (embed_images, embed_texts), see `embedding.build`.
    """

    model: models.DualEncoder
    tokenizer: Tokenizer
    objective_form: str
    total_steps: int
    schedule: optax.Schedule
    abstract_state: TrainState
    abstract_batch: dict[str, jax.ShapeDtypeStruct]
    batch_sharding: NamedSharding
    init: Callable[[], TrainState]
    train_step: Callable[[TrainState, step.Batch], tuple[TrainState, step.Metrics]]
    gradients_of: Callable[
        [TrainState, step.Batch], tuple[step.Metrics, Params, Params]
    ]
    part_size: int
    embedders: Callable[[TrainState], tuple[EmbedImages, EmbedTexts]]


def build(config: ConfigDict, mesh: Mesh, total_steps: int | None = None) -> Program:
    """Puts the parts together; compiles nothing yet.

    Args:
      config: as `configs/common.py` describes it.
      mesh: of the devices.
      total_steps: of the whole run; None: what `num_steps` says of a new one.

    Raises:
      UserError: a value that cannot be meant, by its field's name.
    """
    validation.check(config)
    model, tokens = architecture.build(config, mesh)
    objective = _build_objective(config, mesh)
    shapes = architecture.abstract_variables(model)
    _check_groups(config, "batch_stats" in shapes)
    frozen = _frozen(config, shapes["params"])
    total_steps = total_steps or num_steps(config)
    schedule, tx = _build_optimiser(config, total_steps, frozen)
    first_state = functools.partial(_first_state, config, tx)
    abstract_state = jax.eval_shape(first_state, shapes)
    shardings = sharding.tree_shardings(abstract_state, mesh)
    batch_sharding = sharding.batch_sharding(
        mesh, config.batch_size, config.accumulate_steps
    )
    part_size = config.batch_size // config.accumulate_steps
    measured: dict[str, Any] = {
        "model": model,
        "objective": objective,
        "frozen": frozen,
        "accumulate_steps": config.accumulate_steps,
    }
    train_step = functools.partial(
        step.train_step, tx=tx, ema_decay=config.optim.ema_decay, **measured
    )
    return Program(
        model=model,
        tokenizer=tokens,
        objective_form=objective.form_for(config.batch_size, model.embed_dim),
        total_steps=total_steps,
        schedule=schedule,
        abstract_state=jax.tree.map(_with_sharding, abstract_state, shardings),
        abstract_batch=_abstract_batch(config, model, batch_sharding),
        batch_sharding=batch_sharding,
        # It runs once: compiling it well would take longer than running it badly.
        init=jax.jit(
            lambda: first_state(_draw(config, model)),
            out_shardings=shardings,
            compiler_options={"xla_backend_optimization_level": 0},
        ),
        train_step=jax.jit(
            train_step,
            in_shardings=(shardings, batch_sharding),
            out_shardings=(shardings, sharding.replicated(mesh)),
            donate_argnums=0,
        ),
        gradients_of=jax.jit(
            functools.partial(step.gradients_of, **measured),
            in_shardings=(shardings, batch_sharding),
            out_shardings=(None, shardings.params, shardings.batch_stats),
        ),
        part_size=part_size,
        embedders=_embedders(model, mesh, shardings, part_size),
    )


def _build_objective(config: ConfigDict, mesh: Mesh) -> objectives.Objective:
    return objectives.build(
        config.objective.name,
        inv_tau=config.objective.inv_tau,
        beta=config.objective.beta,
        form=config.objective.form,
        mesh=mesh,
    )


def _frozen(config: ConfigDict, params: Any) -> Any:
    """Which of the model's parameters stay as they are.

    Raises:
      UserError: all of them.
    """
    frozen = selection.select(params, config.freeze, "config.freeze")
    if all(jax.tree.leaves(frozen)):
        raise UserError(f"config.freeze={config.freeze} leaves nothing to train")
    return frozen


def _embedders(
    model: models.DualEncoder, mesh: Mesh, shardings: TrainState, chunk: int
) -> Callable[[TrainState], tuple[EmbedImages, EmbedTexts]]:
    stats = shardings.batch_stats
    bind = embedding.build(model, mesh, shardings.evaluated(), stats, chunk)
    return lambda state: bind(state.evaluated(), state.batch_stats)


def num_steps(config: ConfigDict, done: int = 0, examples_seen: int = 0) -> int:
    """The length of the run in steps; `total_examples` decides if it is given.

    Args:
      config: as `configs/common.py` describes it.
      done: steps so far, at this batch size or others.
      examples_seen: in these.

    Raises:
      UserError: there is not one.
    """
    if config.total_examples is not None:
        left = max(config.total_examples - examples_seen, 0)
        result = done + left // config.batch_size
    else:
        result = config.total_steps or 0
    if result < 1:
        raise UserError(
            f"config.total_steps={config.total_steps} and config.total_examples="
            f"{config.total_examples} make no whole step; give one of them"
        )
    return result


def _check_groups(config: ConfigDict, has_batch_norm: bool) -> None:
    groups, parts = config.model.bn_groups, config.accumulate_steps
    if config.batch_size % groups or config.batch_size // groups < 2:
        raise UserError(
            f"config.model.bn_groups={groups} does not divide "
            f"config.batch_size={config.batch_size} into groups of 2 or more"
        )
    if has_batch_norm and groups % parts:
        raise UserError(
            f"config.model.bn_groups={groups}: with config.accumulate_steps={parts} "
            "BatchNorm normalises over groups within each part of the batch; give a "
            f"multiple of {parts}, such as {math.lcm(groups, parts)}"
        )


def _build_optimiser(
    config: ConfigDict, total_steps: int, frozen: Any
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The learning rate at each step, and what applies it."""
    schedule = optim.schedule(
        config.optim.schedule,
        learning_rate=config.optim.learning_rate,
        warmup_steps=config.optim.warmup_steps,
        total_steps=total_steps,
        num_cycles=config.optim.num_cycles,
    )
    tx = optim.build(
        schedule,
        weight_decay=config.optim.weight_decay,
        b1=config.optim.b1,
        b2=config.optim.b2,
        eps=config.optim.eps,
        grad_clip_norm=config.optim.grad_clip_norm,
        frozen=frozen,
    )
    return schedule, tx


def _draw(config: ConfigDict, model: models.DualEncoder) -> Mapping[str, Any]:
    """The collections `params` and, for a residual network, `batch_stats`."""
    images = jnp.zeros((1, model.image_size, model.image_size, 3))
    texts = jnp.zeros((1, model.context_length), jnp.int32)
    return model.init(jax.random.key(config.seed), images, texts)


def _first_state(
    config: ConfigDict, tx: optax.GradientTransformation, variables: Mapping[str, Any]
) -> TrainState:
    """The state before the first step, of what the encoders start with."""
    scalars = objectives.initial_scalars(
        config.objective.name,
        inv_tau=config.objective.inv_tau,
        learn_inv_tau=config.objective.learn_inv_tau,
    )
    params = {"model": variables["params"], "objective": scalars}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        ema=None if config.optim.ema_decay is None else params,
    )


def _abstract_batch(
    config: ConfigDict, model: models.DualEncoder, placed: NamedSharding
) -> dict[str, jax.ShapeDtypeStruct]:
    parts = config.accumulate_steps
    rows: tuple[int, ...] = (config.batch_size,)
    if parts > 1:
        rows = (parts, config.batch_size // parts)
    side, on_device = model.image_size, config.data.resize == "device"
    leaves: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((side, side, 3), jnp.uint8),
        "text": ((model.context_length,), jnp.int32),
    }
    if on_device:
        side = random_crop.canvas_size(side)
        leaves |= {"image": ((side, side, 3), jnp.uint8), "box": ((2,), jnp.int32)}
    return {
        name: jax.ShapeDtypeStruct((*rows, *shape), dtype, sharding=placed)
        for name, (shape, dtype) in leaves.items()
    }


def _with_sharding(
    leaf: jax.ShapeDtypeStruct, spec: NamedSharding
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec)
