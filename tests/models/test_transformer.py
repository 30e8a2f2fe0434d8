"""The parts in which a transformer can silently differ from the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    assert len(types) > 25
    assert types.count(("float32", "float32")) == 2
    assert types.count(("bfloat16", "bfloat16")) == len(types) - 2
