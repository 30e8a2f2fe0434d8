"""Learning-rate schedules, AdamW as CLIP and CLOOB use it, and a weight average."""

import difflib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from cloob_jax.errors import UserError

SCHEDULES = ("cosine", "cosine_restarts", "constant")

# Parameters by the last part of their path. OpenAI's rule leaves out gains, biases and
# vectors; by name it also holds where layers are stacked and a gain has two axes.
_DECAYED = frozenset({"kernel", "embedding", "positional_embedding", "projection"})
_NOT_DECAYED = frozenset({"scale", "bias", "class_embedding", "log_inv_tau"})

# "Clipped to prevent scaling the logits by more than 100" (Radford et al. 2021, 2.5);
# the lower bound is that of the CLOOB authors' code.
_LOG_INV_TAU_RANGE = (0.0, math.log(100.0))


def schedule(
    name: str,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    num_cycles: int = 1,
) -> optax.Schedule:
    """Returns the learning rate as a function of the steps already done.

    All rise linearly from 0 over `warmup_steps` to `learning_rate`. Then `constant`
    stays; `cosine` falls to 0 along half a cosine; `cosine_restarts` does so
    `num_cycles` times in equal parts of the remaining steps, each from the full rate
    and without a warm-up of its own, as the CLOOB authors train (they use Hugging
    Face's `get_cosine_with_hard_restarts_schedule_with_warmup`). The parts need not be
    whole numbers of steps. From `total_steps` on the two cosines are 0.

    The rates are float32: of a `jax.Array` one, of all else an array of NumPy's.

    Raises:
      UserError: if the name is unknown or a number out of its range.
    """
    if name not in SCHEDULES:
        [nearest] = difflib.get_close_matches(name, SCHEDULES, n=1, cutoff=0)
        raise UserError(
            f"unknown schedule {name!r}: did you mean {nearest}? "
            f"choose one of {', '.join(SCHEDULES)}"
        )
    if not 0 <= warmup_steps < total_steps:
        raise UserError(
            f"optim.warmup_steps={warmup_steps}: expected at least 0 and fewer than "
            f"the {total_steps} steps of the run"
        )
    if num_cycles < 1 or (num_cycles > 1 and name != "cosine_restarts"):
        raise UserError(
            f"optim.num_cycles={num_cycles}: expected 1, or more with the schedule "
            f"cosine_restarts, but the schedule is {name}"
        )
    decay_steps = total_steps - warmup_steps
    if decay_steps * num_cycles >= 2**31:
        raise UserError(
            f"optim.num_cycles={num_cycles} over {total_steps} steps: their product "
            "must be less than 2^31; use fewer cycles"
        )

    def learning_rate_at(step: ArrayLike) -> Float[Array | np.ndarray, "..."]:
        # What the host asks for the host computes: a device answers behind the step
        # that it is at, and the host would wait for it.
        xp: Any = jnp if isinstance(step, jax.Array) else np
        taken = xp.asarray(step, xp.int32)
        factor: Any = 1.0
        if name != "constant":
            done = xp.clip(taken - warmup_steps, 0, decay_steps)
            # In integers: rounding would move a restart by a step.
            phase = (done * num_cycles) % decay_steps / decay_steps
            factor = (1 + xp.cos(xp.pi * phase)) / 2
            factor = xp.where(done == decay_steps, 0.0, factor)
        factor = xp.where(taken < warmup_steps, taken / max(warmup_steps, 1), factor)
        return xp.asarray(learning_rate * factor, xp.float32)

    return learning_rate_at


def build(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    b1: float,
    b2: float,
    eps: float,
    grad_clip_norm: float | None,
    frozen: PyTree[bool] | None = None,
) -> optax.GradientTransformation:
    """Returns AdamW for parameters `{"model": ..., "objective": ...}`.

    Decoupled weight decay, times the learning rate, on the parameters of `decay_mask`;
    before it the gradient's global norm is clipped to `grad_clip_norm`, unless None;
    after it `objective/log_inv_tau`, where there is one, is kept within 0 and ln 100.
    Where `frozen`, a tree like `model`, is True, parameters stay as they are and have
    no moments.

    Raises:
      UserError: if `weight_decay` is negative or `grad_clip_norm` not positive.
    """
    if weight_decay < 0:
        raise UserError(f"optim.weight_decay={weight_decay}: expected 0 or more")
    if grad_clip_norm is not None and grad_clip_norm <= 0:
        raise UserError(
            f"optim.grad_clip_norm={grad_clip_norm}: expected a positive number, or "
            "None for no clipping"
        )
    clip = (
        optax.identity()
        if grad_clip_norm is None
        else optax.clip_by_global_norm(grad_clip_norm)
    )
    adamw = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decay_mask
    )
    tx = optax.chain(clip, adamw, _bound_log_inv_tau())
    if frozen is None or not any(jax.tree.leaves(frozen)):
        return tx
    labels = {
        "model": jax.tree.map(lambda fix: "frozen" if fix else "trained", frozen),
        "objective": "trained",
    }
    return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, labels)


def decay_mask(params: PyTree) -> PyTree[bool]:
    """Says of each parameter whether it is decayed: by its name, not by its shape.

    Decayed are kernels, token and positional embeddings, and projections; not decayed
    are biases, the scales of all norms, the class embedding (a vector) and the learned
    scalars of an objective. The CLOOB authors' rule looks for substrings: it decays the
    BatchNorm scales of the downsampling branches and a learned temperature too.

    Raises:
      ValueError: if a name is in neither list, for then somebody has to decide.
    """

    def is_decayed(path: tuple, _: object) -> bool:
        name = path[-1].key
        if name not in _DECAYED | _NOT_DECAYED:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"is {where} decayed? its name has no rule in optim.py")
        return name in _DECAYED

    return jax.tree.map_with_path(is_decayed, params)


def update_ema(
    ema: PyTree[Float[Array, "..."]],
    params: PyTree[Float[Array, "..."]],
    decay: float | Float[Array, ""],
) -> PyTree[Float[Array, "..."]]:
    """Returns decay * ema + (1 - decay) * params, leaf by leaf in float32.

    A narrower type would lose the small steps: in bfloat16 an average of decay 0.999
    does not move at all.
    """

    def update(average: Float[Array, "*s"], new: Float[Array, "*s"]) -> Array:
        average, new = average.astype(jnp.float32), new.astype(jnp.float32)
        return average + (1 - decay) * (new - average)

    return jax.tree.map(update, ema, params)


def _bound_log_inv_tau() -> optax.GradientTransformation:
    """Shortens the last update of `objective/log_inv_tau` so that it stays in range."""

    def update_fn(updates, state, params=None):
        objective = dict(updates["objective"])
        if "log_inv_tau" in objective:
            old = params["objective"]["log_inv_tau"]
            new = jnp.clip(old + objective["log_inv_tau"], *_LOG_INV_TAU_RANGE)
            objective["log_inv_tau"] = new - old
        return {**updates, "objective": objective}, state

    return optax.GradientTransformation(optax.init_empty_state, update_fn)
