"""The door for notebooks, on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_run
import reference_encoders as encoders
from PIL import Image

import cloob_jax
from cloob_jax import inference, step
from cloob_jax.data.captioned import CaptionedSet
from cloob_jax.data.folders import FolderRecords
from cloob_jax.errors import UserError

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
_STD = np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, random_run.write(folder)


@pytest.fixture(scope="module")
def model(run):
    return cloob_jax.load(str(run[0]))


def pictures(count, size=(40, 32)):
    rng = np.random.default_rng(1)
    shape = (count, size[1], size[0], 3)
    return [Image.fromarray(a) for a in rng.integers(0, 256, shape, np.uint8)]


def test_embeddings_are_those_of_the_reference_whatever_their_number(run, model):
    weights = jax.tree.map(np.float64, run[1])
    images = model.preprocess(pictures(11))
    assert images.shape == (11, 32, 32, 3) and images.dtype == np.uint8
    pixels = (images / 255 - _MEAN) / _STD
    expected = encoders.unit(
        encoders.vit(weights["visual"], pixels, 2, encoders.quick_gelu)
    )
    np.testing.assert_allclose(model.encode_image(images), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(pictures(11)), expected, atol=1e-5)
    np.testing.assert_allclose(
        model.encode_image(pictures(1)[0]), expected[:1], atol=1e-5
    )
    texts = ["a cat", "a dog in the snow", ""]
    ids = model.tokenizer(texts)
    expected = encoders.unit(
        encoders.text(weights["text"], ids, 1, encoders.quick_gelu)
    )
    np.testing.assert_allclose(model.encode_text(texts), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(ids), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_text("a cat"), expected[:1], atol=1e-5)


def test_more_than_a_batch_and_nothing_at_all(run):
    small = cloob_jax.load(run[0], batch_size=3)
    many = small.encode_text([f"number {n}" for n in range(21)])
    one_by_one = [small.encode_text(f"number {n}")[0] for n in range(21)]
    np.testing.assert_allclose(many, one_by_one, atol=1e-6)
    assert small.encode_text([]).shape == (0, 64)
    assert small.encode_image([]).shape == (0, 64)


def test_classification_averages_the_prompts_of_a_class(model):
    names, templates = ["cat", "dog", "cow"], ["a {}.", "the {c}", lambda n: f"{n}s"]
    found = model.classify(pictures(5), names, templates)
    image_embeds = model.encode_image(pictures(5))
    logits = np.zeros((5, 3))
    for number, name in enumerate(names):
        embeds = model.encode_text([f"a {name}.", f"the {name}", f"{name}s"])
        logits[:, number] = 50 * image_embeds @ encoders.unit(embeds.mean(axis=0))
    odds = np.exp(logits)
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), rtol=1e-4)
    single = model.classify(pictures(5), names)
    same = model.classify(pictures(5), names, ["a photo of a {}."])
    np.testing.assert_array_equal(single, same)


def test_the_functions_underneath_are_pure(model):
    images = model.preprocess(pictures(2))
    embeds = step.embed_images(
        model.params, model.batch_stats, jnp.asarray(images), model=model.encoders
    )
    np.testing.assert_allclose(embeds, model.encode_image(images), atol=1e-6)


def test_another_image_size_interpolates_the_positions(run):
    model = cloob_jax.load(run[0], image_size=64)
    assert model.image_size == 64
    assert model.params["visual"]["positional_embedding"].shape == (65, 128)
    assert model.encode_image(pictures(1)[0]).shape == (1, 64)


def test_weights_of_another_size_are_named(run):
    _, weights = inference.read(run[0])
    del weights.params["text"]["token_embedding"]
    with pytest.raises(
        UserError, match="ViT-tiny: text/token_embedding/embedding are miss"
    ):
        inference.Model(weights)


def test_a_step_is_a_path_of_its_own(run):
    model = cloob_jax.load(run[0] / "checkpoints" / "0")
    assert model.embed_dim == 64


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m.encode_image(np.zeros((1, 32, 32, 3))), "float64 .* uint8"),
        (lambda m: m.encode_image(np.zeros((1, 31, 32, 3), np.uint8)), "31, 32"),
        (lambda m: m.encode_text(np.zeros((1, 23), np.int32)), r"\(1, 23\)"),
        (lambda m: m.encode_text(np.zeros((1, 24))), "float64"),
        (lambda m: m.classify(pictures(1), "cat"), "class_names=.*a list of names"),
        (lambda m: m.classify(pictures(1), []), r"class_names=\[\]"),
        (lambda m: m.classify(pictures(1), ["cat"], []), "templates is empty"),
        (lambda m: m.classify(pictures(1), ["cat"], "a photo"), "'a photo' lacks"),
    ],
)
def test_mistakes_are_named(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)


def test_a_folder_without_a_checkpoint_is_named(run, tmp_path):
    for path, message in (
        (tmp_path, "no run directory"),
        (run[0] / "checkpoints" / "7", "complete steps: 0"),
    ):
        with pytest.raises(UserError, match=message):
            cloob_jax.load(path)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        cloob_jax.lode  # noqa: B018


def test_whole_data_sets_are_embedded_by_the_same_door(model, tmp_path):
    names = [f"{number}.png" for number in range(3)]
    for name, picture in zip(names, pictures(3), strict=True):
        picture.save(tmp_path / name)
    records = FolderRecords(tmp_path, dict.fromkeys(names, "a note"))
    found, notes = model.embedder().pictures(CaptionedSet("three", records))
    assert notes == [["a note"]] * 3
    np.testing.assert_allclose(found, model.encode_image(pictures(3)), atol=1e-6)
