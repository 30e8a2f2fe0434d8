"""Every parameter starts as in OpenAI's code, PyTorch's defaults included."""

import re

import jax
import numpy as np
import pytest

from cloob_jax import models


def normal(std):
    return std, 6 * std


def uniform(bound):
    return bound / 3**0.5, bound


def constant(value):
    return 0.0, value


# Pattern of a parameter's path, then (standard deviation, largest magnitude).
# What torch.nn.Linear, MultiheadAttention, LayerNorm and BatchNorm2d leave, at
# width 128:
DEFAULTS = {
    r"mlp/fc/bias": uniform(128**-0.5),
    r"mlp/proj/bias": uniform(512**-0.5),
    r"attention/\w+/bias": constant(0),
    r"layer\w+/bn3/scale": constant(0),
    r"(ln_\w+|bn\d|downsample_bn)/scale": constant(1),
    r"(ln_\w+|bn\d|downsample_bn)/bias": constant(0),
}
# Width 128, two layers.
TEXT = {
    r"token_embedding": normal(0.02),
    r"positional_embedding": normal(0.01),
    r"attention/(query|key|value)/kernel": normal(128**-0.5),
    r"attention/out/kernel|mlp/proj/kernel": normal(128**-0.5 * (2 * 2) ** -0.5),
    r"mlp/fc/kernel": normal((2 * 128) ** -0.5),
    r"projection/kernel": normal(128**-0.5),
}
# Width 128, patches of 8 pixels.
VISION_TRANSFORMER = {
    r"patch_embedding": uniform((8 * 8 * 3) ** -0.5),
    r"class_embedding|positional_embedding|projection": normal(128**-0.5),
    r"attention/(query|key|value)/kernel": uniform((6 / (128 + 3 * 128)) ** 0.5),
    r"attention/out/kernel|mlp/fc/kernel": uniform(128**-0.5),
    r"mlp/proj/kernel": uniform(512**-0.5),
}
# Width 16, one block, hence a pool of 64 channels.
RESIDUAL_NETWORK = {
    r"^conv1/kernel": uniform((9 * 3) ** -0.5),
    r"^conv[23]/kernel": uniform((9 * 8) ** -0.5),
    r"layer1_0/(conv1|conv3|downsample_conv)/kernel": uniform(16**-0.5),
    r"layer1_0/conv2/kernel": uniform((9 * 16) ** -0.5),
    r"attnpool/(\w+/kernel|positional_embedding)": normal(64**-0.5),
    r"attnpool/\w+/bias": uniform(64**-0.5),
}


def text():
    return models.build("ViT-tiny").text.clone(
        width=128, num_heads=2, num_layers=2, vocabulary_size=999
    )


def vision_transformer():
    return models.build("ViT-tiny", image_size=64).visual.clone(num_layers=1)


def residual_network():
    return models.build("RN-tiny", image_size=64).visual.clone(layers=(1,), width=16)


@pytest.mark.parametrize(
    "make, inputs, published",
    [
        (text, np.zeros((1, 24), int), TEXT),
        (vision_transformer, np.zeros((1, 64, 64, 3)), VISION_TRANSFORMER),
        (residual_network, np.zeros((1, 64, 64, 3)), RESIDUAL_NETWORK),
    ],
)
def test_initial_distributions_are_the_published_ones(make, inputs, published):
    # The quick generator halves the time to compile.
    key = jax.random.key(0, impl="unsafe_rbg")
    params = jax.jit(make().init)(key, inputs)["params"]
    table = DEFAULTS | published
    met = set()
    for keys, leaf in jax.tree.leaves_with_path(params):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        pattern = next(pattern for pattern in table if re.search(pattern, path))
        met.add(pattern)
        std, largest = table[pattern]
        tolerance = 5 * (2 * leaf.size) ** -0.5
        assert np.std(leaf) == pytest.approx(std, rel=tolerance, abs=0), path
        assert largest / 3 <= np.abs(leaf).max() <= largest, path
    assert set(published) <= met
