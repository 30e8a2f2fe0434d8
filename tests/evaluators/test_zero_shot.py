"""Zero-shot classification with toy encoders whose answers are known."""

import dataclasses
import json

import numpy as np
import pytest
from test_labelled import _NAMES, write_set

from cloob_jax.data import labelled
from cloob_jax.evaluators import Embedder, ZeroShot, results, samples
from cloob_jax.evaluators.zero_shot import classifier
from cloob_jax.tokenizer import Tokenizer

_LABELS = [0, 1, 2, 2, 1, 0, 2]


@pytest.fixture
def test(tmp_path):
    found = labelled.open_set(
        "config.evals.pets", "pets", str(write_set(tmp_path / "set", _LABELS))
    )
    return ZeroShot(found)


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embed_texts(tokens):
    # "cat", "dog", "emu" on three axes, and a template's own part beside them.
    words = {name: Tokenizer(8)(name)[0][1] for name in ("cat", "dog", "emu")}
    rows = [[1.0 * (word in row) for word in words.values()] for row in tokens]
    template = tokens[:, 1:2] / 50000
    return unit(np.concatenate([rows, template], axis=1))


def make_embedder(answers):
    """Encoders that say `answers`, in the order in which pictures come."""
    remaining = iter(answers)

    def embed_images(images):
        embeds = [[*np.eye(3)[next(remaining)], 0.1] for _ in range(len(images))]
        return 7 * np.float32(embeds), unit(embeds)

    return Embedder(
        embed_images, embed_texts, tokenizer=Tokenizer(8), image_size=16, batch_size=3
    )


def test_prompts_are_averaged_and_normalised(test):
    templates = test.dataset.prompt_sets["ensemble"]
    weights = classifier(_NAMES, templates, make_embedder([]))
    prompts = unit(embed_texts(Tokenizer(8)(["a dog.", "the dog."])))
    np.testing.assert_allclose(
        weights[:, 1], unit([prompts.mean(axis=0)])[0], rtol=1e-6
    )
    assert weights.shape == (4, 3)


@pytest.mark.parametrize(
    ("answers", "top1", "recall"),
    [
        (_LABELS, 1.0, 1.0),
        # Class 0: both right; class 1: one of two; class 2: none of three.
        ([0, 1, 0, 0, 2, 0, 1], 3 / 7, (1 + 1 / 2 + 0) / 3),
    ],
)
def test_scores_are_those_of_the_answers(test, answers, top1, recall):
    found = dict(test.run(make_embedder(answers)))
    assert found["acc1"] == pytest.approx(top1) and "acc5" not in found
    assert found["mean_per_class_recall"] == pytest.approx(recall)
    assert np.mean(found["per_class_recall"]) == pytest.approx(recall)
    assert found["acc1_ci95_low"] <= top1 <= found["acc1_ci95_high"]


def test_another_prompt_set_is_measured_in_the_same_pass(test):
    prompts = {
        "ensemble": ["a {c}."],
        "vague": ["a thing whose name is cut off here: {c}"],
    }
    test = ZeroShot(dataclasses.replace(test.dataset, prompt_sets=prompts))
    found = dict(test.run(make_embedder(_LABELS)))
    assert found["acc1"] == 1
    # Eight tokens leave the name out. Where classes have one prompt, all tie, which is
    # not right by accident.
    assert found["acc1_vague"] == found["acc1_vague_ci95_high"] == 0


def test_pictures_are_embedded_once_for_all(test):
    embedder = make_embedder(_LABELS)  # has no more answers than there are pictures
    first, second = (dict(test.run(embedder)) for _ in range(2))
    assert first["acc1"] == second["acc1"] == 1
    features, labels = embedder.features(test.dataset)
    embeds, _ = embedder.pictures(test.dataset)
    np.testing.assert_allclose(unit(features), embeds)
    assert labels == _LABELS


def test_results_are_json_metrics_and_a_table(test, tmp_path):
    found = results.run_one(
        test,
        make_embedder(_LABELS),
        directory=tmp_path / "eval",
        model="RN50",
        pretrained="run-7",
    )
    file, arrays = sorted((tmp_path / "eval").iterdir())
    assert file.name == "benchmark_pets_run-7_RN50_en_zeroshot_classification.json"
    content = json.loads(file.read_text())
    assert content["metrics"] == found
    assert arrays.name == file.with_suffix(".npz").name
    assert np.load(arrays)["per_class_recall"].tolist() == [1, 1, 1]
    names = results.open_clip_names({"pets": found})
    assert names["val/pets-zeroshot-val-top1"] == 1.0
    assert not any("ci95" in name for name in names)
    assert "pets            7        3      33.3      100.0 (100.0-100.0)" in (
        results.tables({"pets": test}, {"pets": found})
    )


def test_samples_show_pictures_with_captions(test):
    sheet = samples.draw(test, make_embedder(_LABELS[::-1]))
    colours = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert (0x1A, 0x7F, 0x37) in colours  # a true class in green
    assert (0xC4, 0x32, 0x0A) in colours
