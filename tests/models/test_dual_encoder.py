"""Counts, shapes and values of the named models.

The reference is a forward pass in NumPy float64, written from the description of
CLIP's encoders; it shares nothing with the package but the names of the weights.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
            values = rng.normal(size=leaf.shape) * math.prod(leaf.shape[:-1]) ** -0.5
        else:
            values = rng.normal(size=leaf.shape) * 0.3
        return values.astype(np.float32)

    return jax.tree.map_with_path(draw, shapes(model))


def test_every_size_has_a_count_and_published_heads():
    assert set(PARAMETERS) == set(models.SIZES)
    for size in models.SIZES.values():
        assert size.text_width == 64 * size.text_heads


@pytest.mark.parametrize("name", models.SIZES)
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
    gelu = reference_quick_gelu if quick_gelu else reference_gelu
    if name == "RN-tiny":
        stats = weights["batch_stats"]["visual"]
        features = reference_resnet(visual, stats, images, model.visual.layers)
    else:
        features = reference_vit(visual, images, num_heads=2, gelu=gelu)
    return unit(features), unit(reference_text(text, texts, 2, gelu))


@pytest.mark.parametrize("name, quick_gelu", [("RN-tiny", False), ("ViT-tiny", True)])
def test_each_tower_equals_reference(name, quick_gelu):
    model = build(name, dtype=jnp.float32, quick_gelu=quick_gelu)
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


@pytest.mark.parametrize("name, quick_gelu", [("RN-tiny", False), ("ViT-tiny", True)])
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


# The reference, float64.


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def dense(x, weights):
    return x @ weights["kernel"] + weights.get("bias", 0)


def reference_quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def reference_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def reference_layer_norm(x, weights):
    centred = x - x.mean(-1, keepdims=True)
    std = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / std * weights["scale"] + weights["bias"]


def reference_attention(queries, tokens, weights, num_heads, causal):
    query = dense(queries, weights["query"])
    key, value = dense(tokens, weights["key"]), dense(tokens, weights["value"])
    head_width = query.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        part = slice(head * head_width, (head + 1) * head_width)
        logits = query[..., part] @ key[..., part].swapaxes(1, 2) / head_width**0.5
        if causal:
            logits[
                :,
                np.triu_indices(logits.shape[1], 1)[0],
                np.triu_indices(logits.shape[1], 1)[1],
            ] = -np.inf
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        shares = exponentials / exponentials.sum(-1, keepdims=True)
        heads.append(shares @ value[..., part])
    return dense(np.concatenate(heads, -1), weights["out"])


def reference_transformer(x, weights, num_heads, gelu, causal):
    for layer in range(len(weights)):
        block = weights[f"block_{layer}"]
        normed = reference_layer_norm(x, block["ln_1"])
        x = x + reference_attention(
            normed, normed, block["attention"], num_heads, causal
        )
        hidden = dense(reference_layer_norm(x, block["ln_2"]), block["mlp"]["fc"])
        x = x + dense(gelu(hidden), block["mlp"]["proj"])
    return x


def reference_text(weights, texts, num_heads, gelu):
    x = weights["token_embedding"]["embedding"][texts]
    x = x + weights["positional_embedding"]
    x = reference_transformer(x, weights["transformer"], num_heads, gelu, causal=True)
    x = reference_layer_norm(x, weights["ln_final"])
    ends = [list(row).index(49407) for row in texts]
    return dense(x[np.arange(len(texts)), ends], weights["projection"])


def reference_vit(weights, images, num_heads, gelu):
    kernel = weights["patch_embedding"]["kernel"]
    x = reference_convolution(images, kernel, stride=len(kernel), padding=0)
    x = x.reshape(len(images), -1, kernel.shape[-1])
    first = np.broadcast_to(weights["class_embedding"], (len(x), 1, x.shape[-1]))
    x = np.concatenate([first, x], 1) + weights["positional_embedding"]
    x = reference_layer_norm(x, weights["ln_pre"])
    x = reference_transformer(x, weights["transformer"], num_heads, gelu, causal=False)
    x = reference_layer_norm(x, weights["ln_post"])[:, 0]
    return dense(x, weights["projection"])


def reference_convolution(x, kernel, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("bijchw,hwco->bijo", windows, kernel, optimize=True)


def reference_pool(x, stride):
    b, h, w, c = x.shape
    return x.reshape(b, h // stride, stride, w // stride, stride, c).mean((2, 4))


def reference_resnet(weights, stats, images, layers):
    def norm(x, weights, stats):
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        return x * weights["scale"] + weights["bias"]

    def layer(x, weights, stats, number, stride=1):
        kernel = weights[f"conv{number}"]["kernel"]
        x = reference_convolution(x, kernel, stride, padding=len(kernel) // 2)
        return norm(x, weights[f"bn{number}"], stats[f"bn{number}"])

    def relu(x):
        return np.maximum(x, 0)

    x = images
    for number in (1, 2, 3):
        x = relu(layer(x, weights, stats, number, stride=2 if number == 1 else 1))
    x = reference_pool(x, 2)
    for stage, num_blocks in enumerate(layers, start=1):
        for index in range(num_blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            block = weights[f"layer{stage}_{index}"]
            block_stats = stats[f"layer{stage}_{index}"]
            out = relu(layer(x, block, block_stats, 1))
            out = reference_pool(relu(layer(out, block, block_stats, 2)), stride)
            out = layer(out, block, block_stats, 3)
            if index == 0:
                x = reference_pool(x, stride)
                x = reference_convolution(x, block["downsample_conv"]["kernel"])
                x = norm(x, block["downsample_bn"], block_stats["downsample_bn"])
            x = relu(x + out)
    x = x.reshape(len(x), -1, x.shape[-1])
    pool = weights["attnpool"]
    x = np.concatenate([x.mean(1, keepdims=True), x], 1) + pool["positional_embedding"]
    num_heads = x.shape[-1] // 64
    return reference_attention(x[:, :1], x, pool, num_heads, causal=False)[:, 0]
