"""The train step: one program for all objectives, the same on every mesh."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cloob_jax import objectives, program, sharding
from cloob_jax.planning import collectives, hlo
from cloob_jax.step import normalise

_BATCH = 16


def tiny_config(**overrides):
    config = importlib.import_module("configs.shapes_tiny").get_config()
    config.batch_size, config.total_steps = _BATCH, 8
    config.data.image_size = 32
    config.model.name = "ViT-tiny"  # compiles faster than a residual network
    config.optim.warmup_steps = 0
    config.optim.weight_decay = 0.0
    for field, value in overrides.items():
        node, _, leaf = field.rpartition(".")
        setattr(config[node] if node else config, leaf, value)
    return config


def make_batch(parts):
    rng = np.random.default_rng(0)
    size, length = parts.model.image_size, parts.model.context_length
    text = rng.integers(1, 49406, (_BATCH, length), np.int32)
    text[:, -1] = 49407
    images = rng.integers(0, 256, (_BATCH, size, size, 3), np.uint8)
    return {
        name: jax.device_put(rows.reshape(leaf.shape), leaf.sharding)
        for (name, leaf), rows in zip(
            parts.abstract_batch.items(), (images, text), strict=True
        )
    }


def run(steps=1, mesh=(1, 1, 1), **overrides):
    devices = int(np.prod(mesh))
    # A mesh over some of the devices; make_mesh takes all there are.
    whole = jax.make_mesh(
        mesh,
        sharding.AXES,
        devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
    )
    config = tiny_config(**overrides)
    parts = program.build(config, whole)
    batch = make_batch(parts)
    state, history = parts.init(), []
    for _ in range(steps):
        state, metrics = parts.train_step(state, batch)
        history.append({name: float(value) for name, value in metrics.items()})
    return parts, jax.device_get(state), history


@pytest.mark.parametrize("name", objectives.NAMES)
def test_every_objective_learns_a_batch_by_heart(name):
    _, state, history = run(8, **{"objective.name": name})
    assert int(state.step) == 8
    assert all(np.isfinite(list(values.values())).all() for values in history)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_step_is_compiled_once():
    parts, _, _ = run(3)
    assert parts.train_step._cache_size() == 1


# Where a gradient is nothing but rounding, Adam divides it by nothing but rounding:
# eps, large beside that and small beside gradients, keeps it from being learned.
STEADY = {"optim.eps": 1e-4, "optim.learning_rate": 1e-3}


@functools.cache
def trained(mesh=(1, 1, 1), **options):
    # Residual networks take long in programs that are not optimised.
    steps = 4 if options["model.name"] == "RN-tiny" else 20
    return run(steps, mesh=mesh, **STEADY, **options)[1:]


def assert_near(run, other, bound):
    (state, history), (other_state, other_history) = run, other
    for a, b in zip(history, other_history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=bound)
    for a, b in zip(
        jax.tree.leaves((state.params, state.batch_stats)),
        jax.tree.leaves((other_state.params, other_state.batch_stats)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=bound)


@pytest.mark.parametrize(
    ("model", "mesh"), [("RN-tiny", (2, 2, 2)), ("ViT-tiny", (2, 4, 1))]
)
def test_meshes_agree(model, mesh):
    options = {"model.name": model, "objective.form": "gather"}
    one = trained(**{"model.name": model, "model.bn_groups": 4})
    assert_near(one, trained(mesh, **options, **{"model.bn_groups": 4}), 1e-4)


@pytest.mark.parametrize(
    ("model", "mesh", "remat"),
    [("RN-tiny", (1, 1, 1), "none"), ("ViT-tiny", (2, 2, 2), "full")],
)
def test_accumulation_is_exact(model, mesh, remat):
    options = {"model.name": model, "model.bn_groups": 4}
    accumulated = {
        "accumulate_steps": 2,
        "model.remat": remat,
        "objective.form": "ring",
    }
    whole = trained(**options)
    assert_near(whole, trained(mesh, **options, **accumulated), 1e-4)


def test_split_parameters_come_to_the_activations_and_not_they_to_them():
    # What goes over the links is a few times the parameters, whatever the batch.
    config = tiny_config(batch_size=1024)
    parts = program.build(config, sharding.make_mesh(1, 8, 1))
    step = parts.train_step.lower(parts.abstract_state, parts.abstract_batch)
    traffic = collectives.count(hlo.Program(step.compile().as_text())).by_kind
    moved = sum(kind.bytes for kind in traffic.values())
    params = jax.tree.leaves(parts.abstract_state.params)
    assert moved < 3 * sum(leaf.size * leaf.dtype.itemsize for leaf in params)


def test_tables_come_to_the_texts_and_not_what_is_looked_up_to_every_device():
    config = tiny_config(batch_size=2048)
    parts = program.build(config, sharding.make_mesh(2, 4, 1))
    step = parts.train_step.lower(parts.abstract_state, parts.abstract_batch)
    lines = step.compile().as_text().splitlines()
    gathers = [line for line in lines if " all-gather(" in line]
    assert gathers and not [line for line in gathers if "f32[2048,24," in line]


def test_bfloat16_leaves_the_state_in_float32():
    _, state, history = run(1, **{"model.dtype": "bfloat16"})
    floats = [
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    assert floats and all(leaf.dtype == jnp.float32 for leaf in floats)
    assert history[0]["loss"] == pytest.approx(run(1)[2][0]["loss"], rel=0.05)


def test_a_learned_temperature_moves_and_a_fixed_one_does_not():
    _, state, history = run(4, **{"objective.name": "clip"})
    assert history[0]["inv_tau"] == pytest.approx(1 / 0.07)
    assert history[-1]["inv_tau"] != history[0]["inv_tau"]
    assert set(state.params["objective"]) == {"log_inv_tau"}
    assert run(1)[1].params["objective"] == {}


def test_ema_follows_the_parameters():
    # Two steps of the recurrence by hand, from the states in between.
    states = [run(n, **{"optim.ema_decay": 0.9})[1] for n in (1, 2)]
    start = jax.device_get(program.build(tiny_config(), sharding.make_mesh()).init())

    def leaf(tree):
        return tree["model"]["text"]["projection"]["kernel"]

    first = 0.9 * leaf(start.params) + 0.1 * leaf(states[0].params)
    second = 0.9 * first + 0.1 * leaf(states[1].params)
    np.testing.assert_allclose(leaf(states[1].ema), second, rtol=1e-5)
    np.testing.assert_array_equal(
        states[1].evaluated()["text"]["projection"]["kernel"], leaf(states[1].ema)
    )


def test_the_gradient_is_of_the_whole_batch():
    # One step of AdamW at a constant rate moves each weight by rate * sign(gradient):
    # signs of a gradient taken by hand through the model, with all pairs at once.
    parts, after, _ = run(
        1, **{"optim.learning_rate": 1e-3, "optim.schedule": "constant"}
    )
    before = parts.init()
    batch = make_batch(parts)
    objective = objectives.build("cloob", beta=tiny_config().objective.beta)

    def loss(params):
        variables = {"params": params, "batch_stats": before.batch_stats}
        (image, text), _ = parts.model.apply(
            variables,
            normalise(batch["image"]),
            batch["text"],
            train=True,
            mutable=["batch_stats"],
        )
        return objective(image, text)[0]

    gradient = jax.grad(loss)(before.params["model"])["text"]["projection"]["kernel"]
    moved = after.params["model"]["text"]["projection"]["kernel"]
    moved = moved - before.params["model"]["text"]["projection"]["kernel"]
    clear = np.abs(gradient) > 1e-2 * np.abs(gradient).max()
    np.testing.assert_allclose(
        moved[clear], -1e-3 * np.sign(gradient[clear]), rtol=2e-2
    )


def test_clipping_bounds_what_the_optimiser_sees():
    _, state, history = run(1, **{"optim.grad_clip_norm": 1e-3, "optim.b1": 0.9})
    assert history[0]["grad_norm"] > 1e-3  # reported before clipping
    # Adam's first moment after one step is a tenth of what it was given.
    moments = optax.tree.get(state.opt_state, "mu")
    assert float(optax.tree.norm(moments)) == pytest.approx(1e-4, rel=1e-4)


def test_normalise_is_clips():
    image = np.full((1, 2, 2, 3), 128, np.uint8)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    expected = (128 / 255 - mean) / std
    result = normalise(jnp.asarray(image))
    np.testing.assert_allclose(result[0, 1, 1], expected, rtol=1e-5)
