"""The train step and the two embedding functions: pure, to be jitted by `program`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from cloob_jax import objectives, optim, resampling
from cloob_jax.models import DualEncoder
from cloob_jax.state import Params, TrainState

# image uint8 [b, h, w, 3], text int32 [b, l]; box int32 [b, 2] if image holds crops
# that are not resized yet, see `resampling.resize`.
Batch = dict[str, Array]
Metrics = dict[str, Float[Array, ""]]

# The pixel statistics of CLIP's training set (openai/CLIP, clip.py), RGB in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: DualEncoder,
    objective: objectives.Objective,
    tx: optax.GradientTransformation,
    frozen: Any = None,
    ema_decay: float | None = None,
    accumulate_steps: int = 1,
) -> tuple[TrainState, Metrics]:
    """One optimiser step on one global batch.

    Where the loss or the gradient is not finite the step is skipped: nothing but the
    count of steps moves, so that the next batch meets the parameters before.

    Args:
      state: donated by the caller's jit.
      batch: `image` uint8 `[b, h, w, 3]` and `text` int32 `[b, l]`; with more than one
        of `accumulate_steps`, a, `[a, b/a, h, w, 3]` and `[a, b/a, l]`.
      model: the encoders; its groups of BatchNorm are those of one part of the batch.
      objective: of the two `[b, d]` embeddings and the learned scalars.
      tx: the optimiser.
      frozen: a tree like the model's parameters: which are not trained; None: none.
        A locked image encoder also keeps its running statistics, and uses them.
      ema_decay: of the average of the parameters; None keeps none.
      accumulate_steps: parts of the batch that are encoded one after the other, see
        `embed_pairs`.

    Returns:
      The next state, and metrics: `loss` and `grad_norm` (before clipping; also of each
      encoder, `grad_norm/visual`) of the state that came in, `param_norm` of the next,
      and what the objective reports.
    """
    metrics, gradients, batch_stats = gradients_of(
        state,
        batch,
        model=model,
        objective=objective,
        frozen=frozen,
        accumulate_steps=accumulate_steps,
    )
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay is not None:
        ema = optim.update_ema(ema, params, ema_decay)
    # Known before any parameter moves, so that old and new need not both be kept.
    is_finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    new_state = jax.tree.map(
        functools.partial(jnp.where, is_finite),
        TrainState(state.step + 1, params, batch_stats, opt_state, ema),
        state.replace(step=state.step + 1),  # type: ignore[attr-defined]
    )
    return new_state, metrics | {"param_norm": optax.tree.norm(new_state.params)}


def gradients_of(
    state: TrainState,
    batch: Batch,
    *,
    model: DualEncoder,
    objective: objectives.Objective,
    frozen: Any = None,
    accumulate_steps: int = 1,
) -> tuple[Metrics, Params, Params]:
    """What a step goes by; see `train_step`.

    Returns:
      The metrics but `param_norm`, the gradient of the loss with respect to
      `state.params`, and the next running statistics.
    """
    image_is_locked = frozen is not None and all(jax.tree.leaves(frozen["visual"]))

    def loss_fn(params: Params) -> tuple[Array, tuple[Metrics, Params]]:
        variables = {
            "params": _hold(frozen, params["model"]),
            "batch_stats": state.batch_stats,
        }
        image_embeds, text_embeds, batch_stats = embed_pairs(
            variables, batch, model, not image_is_locked, accumulate_steps
        )
        scalars = objectives.to_scalars(params["objective"])
        loss, metrics = objective(image_embeds, text_embeds, scalars)
        return loss, (metrics, batch_stats)

    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (metrics, batch_stats)), gradients = gradient_fn(state.params)
    return metrics | {"loss": loss} | grad_norms(gradients), gradients, batch_stats


def grad_norms(gradients: Params) -> Metrics:
    """`grad_norm` of all gradients, and of each encoder's by its name."""
    parts = {
        name: optax.tree.norm(tree)
        for name, tree in {
            **gradients["model"],
            "objective": gradients["objective"],
        }.items()
    }
    named = {f"grad_norm/{name}": parts[name] for name in gradients["model"]}
    return named | {"grad_norm": optax.tree.norm(parts)}


def embed_pairs(
    variables: Params,
    batch: Batch,
    model: DualEncoder,
    train: bool,
    accumulate_steps: int,
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Params]:
    """Both sides' L2-normalised embeddings, and the new running statistics.

    More than one of `accumulate_steps` encode the batch part by part and keep nothing
    of a part but its embeddings; the gradient of the whole batch's objective with
    respect to these goes back through each part, encoded a second time. That is
    GradCache (Gao et al. 2021, arXiv 2101.06983): exact, where an average over parts
    of a contrastive objective's gradients is another gradient. BatchNorm sees a part at
    a time, and its running statistics take one step, by the mean over the parts.

    The embeddings' rows are in an order that leaves each on its device; the two sides'
    are the same, and no objective depends on it.
    """

    def embed(part: Batch) -> tuple[Array, Array, Params]:
        images = part["image"]
        if "box" in part:
            images = resampling.resize(images, part["box"], model.image_size)
        (image_embeds, text_embeds), updated = model.apply(
            variables,
            normalise(images),
            part["text"],
            train=train,
            mutable=["batch_stats"],
        )
        return image_embeds, text_embeds, updated.get("batch_stats", {})

    if accumulate_steps == 1:
        return embed(batch)
    forgetful = jax.checkpoint(embed, prevent_cse=False)  # the loop does prevent it
    image_embeds, text_embeds, stats = jax.lax.map(forgetful, batch)
    image_embeds, text_embeds = (
        side.swapaxes(0, 1).reshape(-1, side.shape[-1])
        for side in (image_embeds, text_embeds)
    )
    batch_stats = jax.tree.map(lambda parts: jnp.mean(parts, axis=0), stats)
    return image_embeds, text_embeds, batch_stats


def _hold(frozen: Any, params: Params) -> Params:
    """The parameters, without a gradient where they are frozen."""
    if frozen is None:
        return params
    return jax.tree.map(
        lambda fixed, leaf: jax.lax.stop_gradient(leaf) if fixed else leaf,
        frozen,
        params,
    )


def normalise(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Bytes to CLIP's normalised floats; on the device, where it costs nothing."""
    mean = jnp.asarray(MEAN, jnp.float32).reshape(1, 1, 1, 3)
    std = jnp.asarray(STD, jnp.float32).reshape(1, 1, 1, 3)
    return (images.astype(jnp.float32) / 255 - mean) / std


def embed_images(
    params: Params,
    batch_stats: Params,
    images: UInt8[Array, "b h w c"],
    *,
    model: DualEncoder,
) -> Float[Array, "b d"]:
    """L2-normalised image embeddings, with the running statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    return _apply(model, variables, normalise(images), model.encode_image)


def image_features(
    params: Params,
    batch_stats: Params,
    images: UInt8[Array, "b h w c"],
    *,
    model: DualEncoder,
) -> tuple[Float[Array, "b f"], Float[Array, "b d"]]:
    """What linear probes see of images, and their embeddings as of `embed_images`.

    A vision transformer's features are those before its projection, a residual
    network's the output of its attention pool, not normalised (CLIP, appendix A.3).
    """
    embeds, kept = model.apply(
        {"params": params, "batch_stats": batch_stats},
        normalise(images),
        method=model.encode_image,
        mutable=["intermediates"],
    )
    return kept["intermediates"]["visual"]["features"][0], embeds


def embed_texts(
    params: Params, texts: Int[Array, "b l"], *, model: DualEncoder
) -> Float[Array, "b d"]:
    """L2-normalised text embeddings."""
    return _apply(model, {"params": params}, texts, model.encode_text)


def _apply(
    model: DualEncoder, variables: Params, inputs: Array, method: Callable
) -> Float[Array, "b d"]:
    embeds = model.apply(variables, inputs, method=method)
    assert isinstance(embeds, jax.Array)  # no collection is mutable
    return embeds
