"""The count against published figures, formulas, and laws."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from cloob_jax import flops, models, sharding


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_product_and_its_gradients():
    def loss(x, w):
        return jnp.sum(jnp.sin(x @ w))

    x, w = floats(3, 5, 7), floats(7, 11)
    once = 2 * 3 * 5 * 7 * 11
    assert flops.count(loss, x, w) == once
    assert flops.count(jax.grad(loss, argnums=(0, 1)), x, w) == 3 * once


@pytest.mark.parametrize(
    ("dtype", "precision", "passes"),
    [
        (jnp.float32, "highest", 6),
        (jnp.float32, "high", 3),
        (jnp.float32, None, 1),
        (jnp.bfloat16, "highest", 1),
    ],
)
def test_products_of_float32_take_more_passes(dtype, precision, passes):
    left, right = (jnp.zeros(shape, dtype) for shape in ((2, 3), (3, 5)))
    product = functools.partial(jnp.matmul, precision=precision)
    assert flops.count_passes(product, left, right) == passes * 2 * 2 * 3 * 5


def test_taps_on_padding_are_not_counted():
    def convolve(x, kernel, stride):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    x, kernel = floats(2, 6, 6, 3), floats(3, 3, 3, 4)
    # Six places: four see all three taps, the two at the ends see two.
    assert flops.count(lambda x, k: convolve(x, k, 1), x, kernel) == (
        2 * 2 * 3 * 4 * (4 * 3 + 2 * 2) ** 2
    )
    # Three places at stride 2: the first sees two taps, the others three.
    forward = 2 * 2 * 3 * 4 * (2 + 3 + 3) ** 2
    assert flops.count(lambda x, k: convolve(x, k, 2), x, kernel) == forward
    both = jax.grad(lambda x, k: jnp.sum(convolve(x, k, 2) ** 2), argnums=(0, 1))
    # The transposed convolutions dilate; the products are the same ones, twice more.
    assert flops.count(both, x, kernel) == 3 * forward


def test_dilated_taps():
    x, kernel = floats(1, 6, 3), floats(3, 3, 4)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1,),
            ((2, 2),),
            rhs_dilation=(2,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )

    # Six places; the outer taps are two away, where four of the six find something.
    assert flops.count(convolve, x, kernel) == 2 * 3 * 4 * (4 + 6 + 4)


def test_grouped_convolutions_and_their_gradients():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )

    x, kernel = floats(2, 5, 5, 8), floats(2, 2, 2, 12)
    forward = 2 * 2 * 4 * 4 * 12 * (2 * 2 * 2)
    assert flops.count(convolve, x, kernel) == forward
    both = jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2), argnums=(0, 1))
    assert flops.count(both, x, kernel) == 3 * forward


def test_loops_branches_and_recomputation():
    x, w = floats(4, 8), floats(8, 8)
    once = 2 * 4 * 8 * 8

    def repeat(x, w):
        return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, None, length=5)[0]

    assert flops.count(repeat, x, w) == 5 * once

    def choose(flag, x, w):
        return jax.lax.cond(flag, lambda: repeat(x, w), lambda: x @ w)

    assert flops.count(choose, True, x, w) == 5 * once

    def loss(layer, x, w):
        return jnp.sum(layer(layer(x, w), w))

    def layer(x, w):
        return jnp.sin(x @ w)

    both = jax.grad(lambda x, w: loss(layer, x, w), argnums=(0, 1))
    again = jax.grad(lambda x, w: loss(jax.checkpoint(layer), x, w), argnums=(0, 1))
    assert flops.count(both, x, w) == 6 * once
    assert flops.count(again, x, w) == 8 * once


def test_a_sharded_region_counts_all_its_devices():
    mesh = sharding.make_mesh(4, 2, 1)

    def similarities(x, y):
        return x @ jax.lax.all_gather(y, ("data", "fsdp"), tiled=True).T

    rows = P(("data", "fsdp"))
    split = jax.shard_map(similarities, mesh=mesh, in_specs=rows, out_specs=rows)
    x = floats(16, 3)
    assert flops.count(split, x, x) == flops.count(lambda x, y: x @ y.T, x, x)


def test_custom_derivatives_are_looked_into():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, g: (g @ r[1].T, r[0].T @ g))
    x, w = floats(4, 8), floats(8, 8)
    both = jax.value_and_grad(lambda x, w: jnp.sum(product(x, w)), argnums=(0, 1))
    assert flops.count(product, x, w) == 2 * 4 * 8 * 8
    assert flops.count(both, x, w) == 3 * 2 * 4 * 8 * 8


# GFLOPs of one image and of one text, from docs/model_profile.csv of open_clip.
@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("RN50", 12.22, 5.96),
        ("RN101", 19.54, 5.96),
        ("ViT-B-32", 8.82, 5.96),
        ("ViT-B-16", 35.13, 5.96),
        ("ViT-L-14", 162.03, 13.30),
    ],
)
def test_published_encoders(name, image, text, monkeypatch):
    # The published figures count taps on padding ...
    monkeypatch.setattr(
        flops, "_num_products", lambda results, taps, *_: results * taps
    )
    model = models.build(name)
    pixels, tokens = floats(1, 224, 224, 3), jax.ShapeDtypeStruct((1, 77), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), pixels, tokens)

    def encode(method, inputs):
        return flops.count(
            lambda variables, x: model.apply(variables, x, method=method),
            variables,
            inputs,
        )

    expected = image * 1e9
    if name.startswith("RN"):
        # ... and all 50 queries of the pool, of which ours computes the one it keeps.
        width, dim = 2048, model.embed_dim
        expected -= 2 * 49 * (width * width + width * dim + 2 * 50 * width)
    assert encode(model.encode_image, pixels) == pytest.approx(expected, rel=5e-4)
    assert encode(model.encode_text, tokens) == pytest.approx(text * 1e9, rel=1e-3)


def test_a_scanned_transformer_counts_as_an_unrolled_one():
    def forward(scan_layers):
        compute = models.Compute(scan_layers=scan_layers)
        model = models.build("ViT-tiny", compute=compute)
        pixels, tokens = floats(2, 32, 32, 3), jnp.zeros((2, 24), jnp.int32)
        variables = jax.eval_shape(model.init, jax.random.key(0), pixels, tokens)

        def loss(variables, pixels):
            return sum(map(jnp.sum, model.apply(variables, pixels, tokens)))

        return flops.count(jax.grad(loss), variables, pixels)

    assert forward(True) == forward(False) > 0
