"""The parts in which a transformer can silently differ from the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cloob_jax import models
from cloob_jax.models import transformer


def test_activations_at_one():
    assert transformer.quick_gelu(jnp.ones(())) == pytest.approx(0.8457958)
    assert transformer.exact_gelu(jnp.ones(())) == pytest.approx(0.8413447)


@pytest.mark.parametrize(
    "dtype, tolerance", [(jnp.float32, 1e-3), (jnp.bfloat16, 1e-2)]
)
def test_layer_norm_is_computed_in_float32(dtype, tolerance):
    # The variance is near epsilon, and tiny beside the squared mean.
    x = (1 + 4e-3 * np.random.default_rng(0).normal(size=(1, 4, 256))).astype(dtype)
    norm = transformer.layer_norm(dtype, "ln")
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    assert y.dtype == dtype
    exact = np.float64(x)
    centred = exact - exact.mean(-1, keepdims=True)
    expected = centred / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    assert np.abs(np.float64(y) - expected).max() < tolerance * expected.max()


def products(jaxpr):
    """Every matrix product and convolution, with the types that it multiplies."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield tuple(operand.aval.dtype.name for operand in equation.invars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.parametrize("name", ["RN-tiny", "ViT-tiny"])
def test_bfloat16_multiplies_bfloat16_but_for_the_projections(name):
    model = models.build(name)
    side, length = model.image_size, model.context_length
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    texts = jax.ShapeDtypeStruct((1, length), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images, texts)
    types = list(products(jax.make_jaxpr(model.apply)(variables, images, texts).jaxpr))
    assert len(types) > 15
    assert types.count(("float32", "float32")) == 2
    assert types.count(("bfloat16", "bfloat16")) == len(types) - 2


def stack(**compute):
    return transformer.Transformer(
        num_layers=4,
        num_heads=2,
        is_causal=True,
        activation=transformer.quick_gelu,
        initializers=transformer.text_block_initializers(32, 4),
        compute=models.Compute(jnp.float32, **compute),
    )


def compiled_gradient(module, params, x):
    def loss(params):
        return jnp.sum(jnp.square(module.apply(params, x)))

    return jax.jit(jax.grad(loss)).lower(params).compile()


@pytest.mark.parametrize(
    "compute",
    [
        {"scan_layers": False},
        {"remat": "dots"},
        {"remat": "full"},
        {"scan_layers": False, "remat": "full"},
    ],
    ids=str,
)
def test_how_it_is_computed_changes_neither_parameters_nor_gradients(compute):
    x = jax.random.normal(jax.random.key(1), (2, 16, 32))
    plain, other = stack(), stack(**compute)
    params = jax.jit(plain.init)(jax.random.key(0), x)
    other_params = jax.jit(other.init)(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, params, other_params)
    expected, gradient = (
        ravel_pytree(compiled_gradient(module, params, x)(params))[0]
        for module in (plain, other)
    )
    assert np.linalg.norm(gradient - expected) < 1e-6 * np.linalg.norm(expected)


def test_every_layer_starts_with_its_own_values():
    params = stack().init(jax.random.key(0), jnp.zeros((1, 16, 32)))["params"]
    kernels = params["blocks"]["attention"]["out"]["kernel"]
    assert kernels.shape == (4, 32, 32)
    assert len({float(kernel[0, 0]) for kernel in kernels}) == 4


def test_each_policy_keeps_less_than_the_one_before():
    x = jax.random.normal(jax.random.key(1), (4, 64, 32))
    params = jax.eval_shape(stack().init, jax.random.key(0), x)
    none, dots, full = (
        compiled_gradient(stack(remat=remat), params, x)
        .memory_analysis()
        .temp_size_in_bytes
        for remat in models.REMAT_POLICIES
    )
    assert full < 0.8 * dots and dots < 0.8 * none
