"""The names of the published weights, against a list written from `clip/model.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cloob_jax import models
from cloob_jax.errors import UserError
from cloob_jax.weights import names


def blocks(prefix, width, count):
    """The tensors of `Transformer(width, count)`."""
    shapes = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
    }
    return {
        f"{prefix}transformer.resblocks.{number}.{name}": shape
        for number in range(count)
        for name, shape in shapes.items()
    }


def batch_norm(name, width):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts}


def resnet(width, layers, embed_dim, positions):
    shapes, inputs = {}, 3
    for number, outputs in enumerate((width // 2, width // 2, width), start=1):
        shapes[f"conv{number}.weight"] = (outputs, inputs, 3, 3)
        shapes |= batch_norm(f"bn{number}", outputs)
        inputs = outputs
    for stage, count in enumerate(layers, start=1):
        planes = width * 2 ** (stage - 1)
        for number in range(count):
            block = f"layer{stage}.{number}"
            shapes[f"{block}.conv1.weight"] = (planes, inputs, 1, 1)
            shapes[f"{block}.conv2.weight"] = (planes, planes, 3, 3)
            shapes[f"{block}.conv3.weight"] = (4 * planes, planes, 1, 1)
            for norm, channels in (("bn1", 1), ("bn2", 1), ("bn3", 4)):
                shapes |= batch_norm(f"{block}.{norm}", channels * planes)
            if number == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * planes, inputs, 1, 1)
                shapes |= batch_norm(f"{block}.downsample.1", 4 * planes)
            inputs = 4 * planes
    shapes["attnpool.positional_embedding"] = (positions, inputs)
    for part in ("q_proj", "k_proj", "v_proj", "c_proj"):
        outputs = embed_dim if part == "c_proj" else inputs
        shapes[f"attnpool.{part}.weight"] = (outputs, inputs)
        shapes[f"attnpool.{part}.bias"] = (outputs,)
    return {f"visual.{name}": shape for name, shape in shapes.items()}


def vit(width, layers, patch, embed_dim, positions):
    return blocks("visual.", width, layers) | {
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (positions, width),
        "visual.ln_pre.weight": (width,),
        "visual.ln_pre.bias": (width,),
        "visual.ln_post.weight": (width,),
        "visual.ln_post.bias": (width,),
        "visual.proj": (width, embed_dim),
    }


def text(width, layers, context, embed_dim):
    return blocks("", width, layers) | {
        "token_embedding.weight": (49408, width),
        "positional_embedding": (context, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "text_projection": (width, embed_dim),
    }


PUBLISHED = {
    "RN-tiny": resnet(8, (1, 1, 1, 1), 64, 2) | text(64, 1, 24, 64),
    "ViT-tiny": vit(128, 2, 8, 64, 17) | text(64, 1, 24, 64),
    "RN50": resnet(64, (3, 4, 6, 3), 1024, 50) | text(512, 12, 77, 1024),
    "ViT-B-32": vit(768, 12, 32, 512, 50) | text(512, 12, 77, 512),
}
# Without `logit_scale` and the counters of batches; counted in open_clip's models.
NUM_TENSORS = {"RN50": 433, "ViT-B-32": 301}


def abstract(name):
    model = models.build(name, compute=models.Compute(jnp.float32))
    images = jnp.zeros((1, model.image_size, model.image_size, 3))
    texts = jnp.zeros((1, model.context_length), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), images, texts)


def random_state(name):
    rng = np.random.default_rng(0)
    return {
        tensor: rng.standard_normal(shape, np.float32)
        for tensor, shape in PUBLISHED[name].items()
    }


@pytest.mark.parametrize("name", NUM_TENSORS)
def test_the_list_is_as_long_as_the_published_one(name):
    assert len(PUBLISHED[name]) == NUM_TENSORS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_array_has_a_place_of_its_shape(name):
    found = {}
    shapes = dict(jax.tree.leaves_with_path(abstract(name)))
    for path, places in names.places(abstract(name), names.openai):
        for tensor, axes, third in places:
            shape = np.array(shapes[path].shape)[-len(axes) :][np.argsort(axes)]
            if third is not None:
                shape[0] *= 3
            assert tensor not in found or third is not None
            found[tensor] = tuple(shape.tolist())
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", ["RN-tiny", "ViT-tiny"])
def test_round_trips_are_bit_exact(name):
    state = random_state(name)
    back = names.to_state_dict(
        names.from_state_dict(state, abstract(name), names.openai), names.openai
    )
    assert back.keys() == state.keys()
    for tensor in state:
        np.testing.assert_array_equal(back[tensor], state[tensor], err_msg=tensor)


def test_linear_maps_and_convolutions_do_what_they_did():
    state, rng = random_state("ViT-tiny"), np.random.default_rng(1)
    params = names.from_state_dict(state, abstract("ViT-tiny"), names.openai)["params"]
    x = rng.standard_normal(128, np.float32)
    blocks = params["visual"]["transformer"]["blocks"]
    attention = jax.tree.map(lambda stacked: stacked[1], blocks["attention"])
    # PyTorch's linear map is W x + b, of query, key and value one below the other.
    prefix = "visual.transformer.resblocks.1.attn.in_proj_"
    fused = state[f"{prefix}weight"] @ x + state[f"{prefix}bias"]
    ours = [x @ attention[p]["kernel"] + attention[p]["bias"] for p in ORDER]
    np.testing.assert_allclose(np.concatenate(ours), fused, rtol=1e-4, atol=1e-4)
    patch = rng.standard_normal((8, 8, 3), np.float32)
    kernel = params["visual"]["patch_embedding"]["kernel"]
    np.testing.assert_allclose(
        np.einsum("hwc,hwco->o", patch, kernel),
        np.einsum("hwc,ochw->o", patch, state["visual.conv1.weight"]),
        rtol=1e-4,
        atol=1e-4,
    )


ORDER = ("query", "key", "value")


def test_what_does_not_fit_is_named():
    state = random_state("RN-tiny")
    del state["visual.bn1.weight"]
    state["visual.extra"] = np.zeros(3, np.float32)
    state["positional_embedding"] = state["positional_embedding"][:7]
    fused = "transformer.resblocks.0.attn.in_proj_bias"
    state[fused] = state[fused][:96]
    with pytest.raises(UserError) as caught:
        names.from_state_dict(state, abstract("RN-tiny"), names.openai)
    assert str(caught.value).split("; ") == [
        "positional_embedding has shape (7, 64), expected (24, 64)",
        f"{fused} has shape (96,), expected (192,)",
        "visual.bn1.weight is missing",
        "visual.extra is left over",
    ]
