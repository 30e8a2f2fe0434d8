"""Counts, shapes and values of the named models.

The reference is that of `reference_encoders`, in float64.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_encoders as encoders

from cloob_jax import models
from cloob_jax.errors import UserError

# As published by OpenAI and open_clip, less one: theirs count the temperature
# (`logit_scale`), which here belongs to the objective. The tiny ones by hand.
PARAMETERS = {
    "RN50": 102_007_137 - 1,
    "RN101": 119_688_033 - 1,
    "RN50x4": 178_300_601 - 1,
    "RN50x16": 290_979_217 - 1,
    "RN50x64": 623_258_305 - 1,
    "ViT-B-32": 151_277_313 - 1,
    "ViT-B-16": 149_620_737 - 1,
    "ViT-L-14": 427_616_513 - 1,
    "ViT-L-14-336": 427_944_193 - 1,
    "RN-tiny": 3_559_964,
    "ViT-tiny": 3_649_984,
}
# Those of CLIP less three norms (two of the image's width, one of the text's)
# and plus the biases of the two projections.
for name in ("ViT-B-32", "ViT-B-16"):
    difference = 2 * 512 - 4 * 768 - 2 * 512
    PARAMETERS[f"{name}-cloob-training"] = PARAMETERS[name] + difference
PARAMETERS["ViT-L-14-cloob-training"] = PARAMETERS["ViT-L-14"] - 4 * 1024
PARAMETERS["ViT-tiny-cloob-training"] = PARAMETERS["ViT-tiny"] - 4 * 128


TOWERS = [
    ("RN-tiny", False),
    ("ViT-tiny", True),
    ("ViT-tiny-cloob-training", False),
]


def batch(model, num_pairs=3):
    rng = np.random.default_rng(0)
    side = model.image_size
    images = rng.normal(size=(num_pairs, side, side, 3)).astype(np.float32)
    texts = rng.integers(1, 49406, (num_pairs, model.context_length), np.int32)
    for row in range(num_pairs):
        end = 4 + 5 * row
        texts[row, end] = 49407
        texts[row, end + 1 :] = 0
    return images, texts


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), *batch(model, 1))


def random_variables(model):
    """Weights that leave nothing at a value (0, 1) that could hide its absence."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif name == "kernel":
            layers = leaf.shape[0] if "blocks" in {key.key for key in path} else 1
            fan_in = math.prod(leaf.shape[:-1]) / layers
            values = rng.normal(size=leaf.shape) * fan_in**-0.5
        else:
            values = rng.normal(size=leaf.shape) * 0.3
        return values.astype(np.float32)

    return jax.tree.map_with_path(draw, shapes(model))


def test_every_size_has_a_count_and_published_heads():
    assert set(PARAMETERS) == set(models.NAMES)
    for size in models.SIZES.values():
        assert size.text_width == 64 * size.text_heads


@pytest.mark.parametrize("name", models.NAMES)
def test_parameter_count_is_the_published_one(name):
    params = shapes(models.build(name))["params"]
    assert set(params) == {"visual", "text"}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


def relative_error(value, expected):
    return np.abs(value - expected).max() / np.abs(expected).max()


def build(name, **options):
    """A named model with every kind of block, and no more of them than that."""
    model = models.build(name, **options)
    model = model.clone(text=model.text.clone(num_heads=2, num_layers=2))
    if name == "RN-tiny":
        return model.clone(visual=model.visual.clone(layers=(2, 1, 1, 1)))
    return model.clone(visual=model.visual.clone(num_layers=2))


@functools.cache
def reference(name, quick_gelu):
    model = build(name, quick_gelu=quick_gelu)
    variables, (images, texts) = random_variables(model), batch(model)
    weights = jax.tree.map(np.float64, variables)
    visual, text = weights["params"]["visual"], weights["params"]["text"]
    gelu = encoders.quick_gelu if quick_gelu else encoders.exact_gelu
    if name == "ViT-tiny-cloob-training":
        features = encoders.cloob_training_vision(visual, images, num_heads=2)
        text_features = encoders.cloob_training_text(text, texts, num_heads=2)
        return encoders.unit(features), encoders.unit(text_features)
    if name == "RN-tiny":
        stats = weights["batch_stats"]["visual"]
        features = encoders.resnet(visual, stats, images, model.visual.layers)
    else:
        features = encoders.vit(visual, images, num_heads=2, gelu=gelu)
    return encoders.unit(features), encoders.unit(encoders.text(text, texts, 2, gelu))


@pytest.mark.parametrize("name, quick_gelu", TOWERS)
def test_each_tower_equals_reference(name, quick_gelu):
    compute = models.Compute(jnp.float32)
    model = build(name, compute=compute, quick_gelu=quick_gelu)
    variables, (images, texts) = random_variables(model), batch(model)
    visual, text = (
        {
            kind: {tower: tree[tower]}
            for kind, tree in variables.items()
            if tower in tree
        }
        for tower in ("visual", "text")
    )
    encode_image = jax.jit(functools.partial(model.apply, method=model.encode_image))
    encode_text = jax.jit(functools.partial(model.apply, method=model.encode_text))
    image_embeds, text_embeds = reference(name, quick_gelu)
    assert relative_error(encode_image(visual, images), image_embeds) < 1e-4
    assert relative_error(encode_text(text, texts), text_embeds) < 1e-4


@pytest.mark.parametrize("name, quick_gelu", TOWERS)
def test_bfloat16_is_near_reference(name, quick_gelu):
    model = build(name, quick_gelu=quick_gelu)
    variables, (images, texts) = random_variables(model), batch(model)
    embeds = jax.jit(model.apply)(variables, images, texts)
    for value, expected in zip(embeds, reference(name, quick_gelu), strict=True):
        assert value.dtype == jnp.float32
        assert value.shape == (3, 64)
        np.testing.assert_allclose(np.linalg.norm(value, axis=1), 1, rtol=1e-6)
        assert np.sum(value * expected, axis=1).min() > 0.999
        assert relative_error(value, expected) > 1e-4


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'RN5O': choose RN50"):
        models.build("RN5O")
    with pytest.raises(UserError, match="100 .* RN50: .* multiple of 32"):
        models.build("RN50", image_size=100)
    model = models.build("ViT-tiny", image_size=96)
    assert (model.image_size, model.context_length, model.embed_dim) == (96, 24, 64)
    with pytest.raises(ValueError, match=r"\(32, 32, 3\), this model .* \(96, 96, 3\)"):
        jax.eval_shape(
            model.init, jax.random.key(0), *batch(models.build("ViT-tiny"), 1)
        )


def test_models_of_the_same_name_are_equal():
    # A jitted function that takes the model as a static argument compiles once.
    assert models.build("RN50") == models.build("RN50")
    assert hash(models.build("ViT-B-32")) == hash(models.build("ViT-B-32"))
