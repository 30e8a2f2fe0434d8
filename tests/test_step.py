"""The train step: one program for all objectives, the same on every mesh."""

import functools
import importlib
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_tokenizer_file

from cloob_jax import objectives, program, sharding
from cloob_jax.planning import collectives, hlo
from cloob_jax.state import TrainState
from cloob_jax.step import normalise

_BATCH = 16


@functools.cache
def few_words():
    """A tokenizer file, for a table of tokens that is not most of the model."""
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    test_tokenizer_file.write(path, words=[f"w{number}" for number in range(1000)])
    return str(path)


def tiny_config(**overrides):
    config = importlib.import_module("configs.shapes_tiny").get_config()
    config.batch_size, config.total_steps = _BATCH, 8
    config.data.image_size = 32
    config.model.name = "ViT-tiny"  # compiles faster than a residual network
    config.data.tokenizer = few_words()
    config.optim.warmup_steps = 0
    config.optim.weight_decay = 0.0
    # Where a gradient is nothing but rounding, Adam divides it by nothing but rounding:
    # eps, large beside that and small beside gradients, keeps it from being learned.
    config.optim.eps, config.optim.learning_rate = 1e-4, 1e-3
    for field, value in overrides.items():
        node, _, leaf = field.rpartition(".")
        setattr(config[node] if node else config, leaf, value)
    return config


def make_batch(parts):
    rng = np.random.default_rng(0)
    size, length = parts.model.image_size, parts.model.context_length
    # Above the ids of what is no word, and the end of the text last.
    text = rng.integers(3, parts.tokenizer.vocabulary_size, (_BATCH, length), np.int32)
    text[:, -1] = parts.tokenizer.end_id
    images = rng.integers(0, 256, (_BATCH, size, size, 3), np.uint8)
    return {
        name: jax.device_put(rows.reshape(leaf.shape), leaf.sharding)
        for (name, leaf), rows in zip(
            parts.abstract_batch.items(), (images, text), strict=True
        )
    }


class Trained(NamedTuple):
    parts: program.Program
    start: TrainState
    first: TrainState  # after one step
    last: TrainState
    history: list[dict[str, float]]


@functools.cache
def run(steps=8, mesh=(1, 1, 1), **overrides):
    devices = int(np.prod(mesh))
    # A mesh over some of the devices; make_mesh takes all there are.
    whole = jax.make_mesh(
        mesh,
        sharding.AXES,
        devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
    )
    parts = program.build(tiny_config(**overrides), whole)
    batch, state = make_batch(parts), parts.init()
    states, history = [jax.device_get(state)], []
    for _ in range(steps):
        state, metrics = parts.train_step(state, batch)
        history.append({name: float(value) for name, value in metrics.items()})
        states.append(jax.device_get(state))
    return Trained(parts, states[0], states[1], states[-1], history)


CLOOB = {"objective.name": "cloob"}


@pytest.mark.parametrize("name", objectives.NAMES)
def test_every_objective_learns_a_batch_by_heart(name):
    found = run(**{"objective.name": name})
    assert int(found.last.step) == 8
    assert all(np.isfinite(list(values.values())).all() for values in found.history)
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_the_step_is_compiled_once():
    assert run(**CLOOB).parts.train_step._cache_size() == 1


def assert_near(one, other, bound):
    for a, b in zip(one.history, other.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=bound)
    for a, b in zip(
        jax.tree.leaves((one.last.params, one.last.batch_stats)),
        jax.tree.leaves((other.last.params, other.last.batch_stats)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=bound)


# Residual networks take long in programs that are not optimised.
RESIDUAL = CLOOB | {"steps": 2, "model.name": "RN-tiny", "model.bn_groups": 4}


@pytest.mark.parametrize(
    ("alone", "mesh", "options"),
    [
        (CLOOB, (2, 4, 1), {"objective.form": "gather"}),
        (
            CLOOB,
            (2, 2, 2),
            {"accumulate_steps": 2, "model.remat": "full", "objective.form": "ring"},
        ),
        # Statistics of BatchNorm within parts of the batch that devices share.
        (RESIDUAL, (2, 2, 2), {"accumulate_steps": 2, "objective.form": "gather"}),
    ],
)
def test_no_mesh_and_no_way_to_compute_changes_what_is_learned(alone, mesh, options):
    assert_near(run(**alone), run(mesh=mesh, **alone, **options), 1e-4)


def test_split_parameters_come_to_the_activations_and_not_they_to_them():
    # What goes over the links is a few times the parameters, whatever the batch.
    config = tiny_config(batch_size=1024, **{"data.tokenizer": None})
    parts = program.build(config, sharding.make_mesh(1, 8, 1))
    step = parts.train_step.lower(parts.abstract_state, parts.abstract_batch)
    traffic = collectives.count(hlo.Program(step.compile().as_text())).by_kind
    moved = sum(kind.bytes for kind in traffic.values())
    params = jax.tree.leaves(parts.abstract_state.params)
    assert moved < 3 * sum(leaf.size * leaf.dtype.itemsize for leaf in params)


def test_tables_come_to_the_texts_and_not_what_is_looked_up_to_every_device():
    config = tiny_config(batch_size=2048, **{"data.tokenizer": None})
    parts = program.build(config, sharding.make_mesh(2, 4, 1))
    step = parts.train_step.lower(parts.abstract_state, parts.abstract_batch)
    lines = step.compile().as_text().splitlines()
    gathers = [line for line in lines if " all-gather(" in line]
    assert gathers and not [line for line in gathers if "f32[2048,24," in line]


def test_bfloat16_leaves_the_state_in_float32():
    found = run(1, **{"model.dtype": "bfloat16"})
    leaves = jax.tree.leaves(found.last)
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    assert floats and all(leaf.dtype == jnp.float32 for leaf in floats)
    expected = run(**CLOOB).history[0]["loss"]
    assert found.history[0]["loss"] == pytest.approx(expected, rel=0.05)


def test_a_learned_temperature_moves_and_a_fixed_one_does_not():
    found = run(**{"objective.name": "clip"})
    assert found.history[0]["inv_tau"] == pytest.approx(1 / 0.07)
    assert found.history[-1]["inv_tau"] != found.history[0]["inv_tau"]
    assert set(found.last.params["objective"]) == {"log_inv_tau"}
    assert run(**CLOOB).last.params["objective"] == {}


def _projection(tree):
    return tree["text"]["projection"]["kernel"]


AVERAGED_AND_CLIPPED = {"optim.ema_decay": 0.9, "optim.grad_clip_norm": 1e-3}


def test_ema_follows_the_parameters():
    found = run(2, **AVERAGED_AND_CLIPPED)
    # Two steps of the recurrence by hand, from the states in between.
    start, first, last = (
        _projection(state.params["model"])
        for state in (found.start, found.first, found.last)
    )
    expected = 0.9 * (0.9 * start + 0.1 * first) + 0.1 * last
    ema = _projection(found.last.ema["model"])
    np.testing.assert_allclose(ema, expected, rtol=1e-5)
    np.testing.assert_array_equal(_projection(found.last.evaluated()), ema)


def test_the_gradient_is_of_the_whole_batch():
    # The first step of AdamW moves each weight by rate * g / (|g| + eps): of a gradient
    # g taken by hand through the model, with all pairs at once.
    found = run(**CLOOB)
    batch = make_batch(found.parts)
    objective = objectives.build("cloob", beta=tiny_config().objective.beta)

    @jax.jit
    @jax.grad
    def gradient_of(params):
        variables = {"params": params, "batch_stats": found.start.batch_stats}
        (image, text), _ = found.parts.model.apply(
            variables,
            normalise(batch["image"]),
            batch["text"],
            train=True,
            mutable=["batch_stats"],
        )
        return objective(image, text)[0]

    before = found.start.params["model"]
    gradient = np.asarray(_projection(gradient_of(before)))
    moved = _projection(found.first.params["model"]) - _projection(before)
    clear = np.abs(gradient) > 1e-2 * np.abs(gradient).max()
    optim = tiny_config().optim
    expected = -optim.learning_rate * gradient / (np.abs(gradient) + optim.eps)
    np.testing.assert_allclose(moved[clear], expected[clear], rtol=1e-2)


def test_clipping_bounds_what_the_optimiser_sees():
    found = run(2, **AVERAGED_AND_CLIPPED)
    assert found.history[0]["grad_norm"] > 1e-3  # reported before clipping
    # Adam's first moment after one step is a tenth of what it was given.
    moments = optax.tree.get(found.first.opt_state, "mu")
    assert float(optax.tree.norm(moments)) == pytest.approx(1e-4, rel=1e-4)


def test_normalise_is_clips():
    image = np.full((1, 2, 2, 3), 128, np.uint8)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    expected = (128 / 255 - mean) / std
    result = normalise(jnp.asarray(image))
    np.testing.assert_allclose(result[0, 1, 1], expected, rtol=1e-5)


def test_crops_may_be_resized_in_the_step():
    # A crop that has its size already is left as it is.
    expected = run(**CLOOB)
    plain, mesh = make_batch(expected.parts), expected.parts.batch_sharding.mesh
    parts = program.build(tiny_config(**CLOOB, **{"data.resize": "device"}), mesh)
    size = parts.model.image_size
    filled = {"image": plain["image"], "text": plain["text"], "box": size}
    batch = {}
    for name, leaf in parts.abstract_batch.items():
        rows = np.full(leaf.shape, 99, leaf.dtype)
        if name == "image":
            rows[:, :size, :size] = filled[name]
        else:
            rows[:] = filled[name]
        batch[name] = jax.device_put(rows, leaf.sharding)
    _, found = parts.train_step(parts.init(), batch)
    assert float(found["loss"]) == pytest.approx(expected.history[0]["loss"], rel=1e-6)
