"""The forms in blocks equal the plain one, on any mesh, in far less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from cloob_jax import objectives
from cloob_jax.errors import UserError

SCALARS = {
    "cloob": {"inv_tau": 30.0, "beta": 14.3},
    "clip": {"inv_tau": 50.0},
    "infoloob": {"inv_tau": 30.0},
    "hopfield_infonce": {"inv_tau": 30.0, "beta": 8.0},
    "siglip": {"inv_tau": 10.0, "bias": -10.0},
}
NUM_PAIRS = 48
# form, mesh, block size: blocks that divide the columns and that do not, larger than
# all of them, and the one that is chosen where none is given.
LAYOUTS = {
    "one device": ("gather", None, 10),
    "gather": ("gather", (8, 1, 1), 7),
    "gather of data x fsdp x tensor": ("gather", (2, 2, 2), 16),
    "ring": ("ring", (2, 4, 1), 4),
    "ring of two": ("ring", (1, 2, 1), 100),
    "ring of four": ("ring", (4, 1, 1), None),
}


def make_mesh(shape):
    if shape is None:
        return None
    devices = jax.devices()[: np.prod(shape)]
    axes = ("data", "fsdp", "tensor")
    return jax.make_mesh(
        shape, axes, axis_types=(AxisType.Auto,) * 3, devices=np.asarray(devices)
    )


@functools.cache
def embeddings(num_pairs, width=16):
    """Pairs near each other, two of them twice, around a common direction."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(num_pairs, width)) + rng.normal(size=width)
    texts = images + 0.7 * rng.normal(size=(num_pairs, width))
    images[-2:], texts[-2:] = images[:2], texts[:2]
    return tuple(
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts)
    )


def compute(name, form, mesh=None, block_size=None, dtype=jnp.float64):
    """The loss, all gradients and the metrics, as NumPy arrays."""
    objective = objectives.build(name, form=form, mesh=mesh, block_size=block_size)
    gradient = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))
    x, y = (jnp.asarray(rows, dtype) for rows in embeddings(NUM_PAIRS))
    scalars = {key: jnp.asarray(value, dtype) for key, value in SCALARS[name].items()}
    (loss, metrics), (by_x, by_y, by_scalars) = gradient(x, y, scalars)
    results = {"loss": loss, "x": by_x, "y": by_y, **by_scalars}
    return jax.tree.map(np.asarray, (results, metrics))


@functools.cache
def plain(name):
    with jax.enable_x64(True):
        return compute(name, "plain")


@pytest.mark.parametrize(
    ("name", "layout"),
    [("cloob", layout) for layout in LAYOUTS]
    + [(n, layout) for n in objectives.NAMES[1:] for layout in ("gather", "ring")],
)
def test_forms_in_blocks_equal_the_plain_one(name, layout):
    form, shape, block_size = LAYOUTS[layout]
    expected, expected_metrics = plain(name)
    with jax.enable_x64(True):
        results, metrics = compute(name, form, make_mesh(shape), block_size)
    assert results.keys() == expected.keys()
    for key, value in expected.items():
        error = np.max(np.abs(results[key] - value)) / np.max(np.abs(value))
        assert error < 1e-12, key
    for key, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("form", ["gather", "ring"])
@pytest.mark.parametrize("name", ["cloob", "clip"])
def test_float32_is_near_float64(name, form):
    expected, _ = plain(name)
    results, _ = compute(name, form, make_mesh((8, 1, 1)), 7, jnp.float32)
    for key, value in expected.items():
        error = np.max(np.abs(results[key] - value)) / np.max(np.abs(value))
        assert error < 2e-5, key


@pytest.mark.parametrize("form", ["gather", "ring"])
def test_a_sharp_retrieval_keeps_the_gradient_of_beta(form):
    # Almost each row retrieves its own pair alone: to rounding, beta has no influence.
    x, y = embeddings(NUM_PAIRS, width=64)

    def gradient(form, mesh, dtype):
        objective = objectives.build("cloob", form=form, mesh=mesh, block_size=7)
        scalars = {key: jnp.asarray(80.0, dtype) for key in ("inv_tau", "beta")}
        rows = (jnp.asarray(side.astype(np.float32), dtype) for side in (x, y))
        by_scalars, _ = jax.jit(jax.grad(objective, 2, has_aux=True))(*rows, scalars)
        return float(by_scalars["beta"])

    with jax.enable_x64(True):
        expected = gradient("plain", None, jnp.float64)
    found = gradient(form, make_mesh((8, 1, 1)), jnp.float32)
    assert found == pytest.approx(expected, rel=5e-5)


def test_a_pair_that_has_won_keeps_an_exact_gradient():
    # p of the pair is 1 - 1e-9: in float32, 1 - p would be 0 or 60 times too much.
    x = np.eye(4, 8)
    gradient = jax.jit(jax.grad(objectives.build("clip"), has_aux=True))
    by_x, _ = gradient(jnp.asarray(x), jnp.asarray(x), {"inv_tau": 22.0})
    lost = 3 / (3 + np.exp(22.0))
    expected = -22.0 / 4 * lost * (x - (x.sum(axis=0) - x) / 3)
    np.testing.assert_allclose(by_x, expected, rtol=1e-5, atol=1e-15)


def compiled(form, num_pairs, shape=(8, 1, 1)):
    objective = objectives.build("cloob", form=form, mesh=make_mesh(shape))
    rows = jax.ShapeDtypeStruct((num_pairs, 64), jnp.float32)
    gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    return gradient.lower(rows, rows).compile()


@pytest.mark.parametrize("form", ["gather", "ring"])
def test_memory_grows_with_the_pairs_and_not_with_their_square(form):
    small, large = (
        compiled(form, n).memory_analysis().temp_size_in_bytes for n in (2**15, 2**16)
    )
    assert large < 2.5 * small


def test_no_device_of_a_ring_holds_all_rows():
    program = compiled("ring", 2**10).as_text()
    assert "collective-permute" in program and "all-gather" not in program
    assert f"f32[{2**10},64]" not in program


@pytest.mark.parametrize(
    ("num_pairs", "width", "shape", "form"),
    [
        (512, 1024, (8, 1, 1), "plain"),
        (2**15, 512, (8, 1, 1), "gather"),
        (8192, 512, None, "gather"),
        (2**20, 512, (8, 1, 1), "ring"),
        (2**15 + 1, 512, (8, 1, 1), "plain"),
    ],
)
def test_auto_takes_the_first_form_whose_memory_is_small(num_pairs, width, shape, form):
    objective = objectives.build("cloob", form="auto", mesh=make_mesh(shape))
    assert objective.form_for(num_pairs, width) == form


def test_a_batch_that_does_not_divide_is_named():
    objective = objectives.build("cloob", form="ring", mesh=make_mesh((8, 1, 1)))
    with pytest.raises(UserError, match="all 8 devices, which 12 pairs do not"):
        objective(jnp.ones((12, 4)), jnp.ones((12, 4)))
