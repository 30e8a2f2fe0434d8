"""Linear probes on made-up features: the protocol again with scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference

from cloob_jax.data.labelled import LabelledSet
from cloob_jax.errors import UserError
from cloob_jax.evaluators import Embedder, linear_probe
from cloob_jax.evaluators.linear_probe import FewShot, LinearProbe

_NAMES = ["cat", "dog", "emu", "fox", "gnu", "hen", "yak"]  # no picture shows a yak
_CENTRES = np.random.default_rng(7).normal(size=(7, 24))


class Labels(list):
    """A source of labels without pictures, which nobody asks for."""

    fingerprint, faults = "", []

    def name(self, record):
        return "0.tar", str(record)


def make_set(labels, names=_NAMES):
    return LabelledSet(
        "pets", Labels(map(int, labels)), names, {"ensemble": ["a {c}."]}
    )


class Toy(Embedder):
    """Noise around the centres of classes; texts are the centres themselves."""

    def __init__(self):
        self.report = print

    def features(self, dataset):
        labels = np.array(dataset.records, int)
        noise = np.random.default_rng(len(labels)).normal(size=(len(labels), 24))
        return (8 * (_CENTRES[labels] + 1.5 * noise)).astype(np.float32), list(labels)

    def pictures(self, dataset):
        features, labels = self.features(dataset)
        return features / np.linalg.norm(features, axis=1, keepdims=True), labels

    def texts(self, texts):
        rows = _CENTRES[[_NAMES.index(text[2:-1]) for text in texts]]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


TRAIN, TEST, VALIDATION = (
    make_set(np.tile(np.arange(6), repeats)) for repeats in (20, 30, 5)
)


def accuracy(c, features, labels, test_features, test_labels):
    model = Reference(C=c, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    return model.fit(features.astype(np.float64), labels).score(
        test_features, test_labels
    )


@pytest.mark.parametrize("validation", [None, VALIDATION])
def test_the_probe_is_scikit_learns_at_the_best_penalty(validation):
    evaluator, embedder = LinearProbe(TRAIN, TEST, validation), Toy()
    found = dict(evaluator.run(embedder))
    fitted = embedder.features(TRAIN)
    held = embedder.features(VALIDATION)
    whole = [np.concatenate(pair) for pair in zip(fitted, held, strict=True)]
    if validation is None:
        features, labels = whole = [np.array(part) for part in fitted]
        is_held_out = linear_probe.held_out(labels, "pets")
        fitted = features[~is_held_out], labels[~is_held_out]
        held = features[is_held_out], labels[is_held_out]
    assert found["validation_acc1"] == pytest.approx(
        accuracy(found["c"], *fitted, *held)
    )
    expected = accuracy(found["c"], *whole, *embedder.features(TEST))
    assert found["lp_acc1"] == pytest.approx(expected, abs=1 / 180)
    assert found["lp_acc1"] == pytest.approx(found["lp_mean_per_class_recall"])
    assert found["lp_acc5"] > found["lp_acc1"] > 0.5
    # The best that there is, to a picture: the curve has one peak but for noise.
    others = [accuracy(10.0**k, *fitted, *held) for k in range(-6, 3)]
    assert found["validation_acc1"] >= max(others)
    cells = evaluator.cells(found)
    assert cells["linear probe"] == "pets" and cells["test"] == "180"
    assert cells["train"] == ("120" if validation is None else "150")
    assert cells["top-1 % (95 % interval)"].startswith(f"{100 * expected:.1f} (")


def test_few_shots_are_scikit_learns_on_the_same_draws():
    evaluator, embedder = FewShot(TRAIN, TEST, (1, 4, 16), num_seeds=2), Toy()
    found = dict(evaluator.run(embedder))
    features, labels = map(np.array, embedder.features(TRAIN))
    for k in (1, 4, 16):
        expected = []
        for seed in range(2):
            rows = linear_probe.draw(labels, k, seed, "pets").ravel()
            spread = np.mean(np.sum((features[rows] - features[rows].mean(0)) ** 2, 1))
            drawn = features[rows], labels[rows]
            test = embedder.features(TEST)
            expected.append(accuracy(1 / float(spread), *drawn, *test))
        assert found[f"fewshot_{k}_acc1"] == pytest.approx(np.mean(expected), abs=0.006)
        deviation = abs(expected[0] - expected[1]) / 2**0.5
        assert found[f"fewshot_{k}_acc1_std"] == pytest.approx(deviation, abs=0.006)
    assert found == dict(evaluator.run(embedder)), "a second run draws others"
    embeds, labels = embedder.pictures(TEST)
    line = np.mean(
        (embeds @ embedder.texts([f"a {n}." for n in _NAMES]).T).argmax(1) == labels
    )
    assert found["zeroshot_acc1"] == line
    # The texts are the centres themselves, which six samples of 24 numbers do not give.
    assert "shots_to_match_zeroshot" not in found
    assert evaluator.cells(found)["shots to match"] == "-"
    assert "NaN" not in json.dumps(found)


def test_draws_are_of_each_class_without_replacement_and_nested():
    labels = np.random.default_rng(0).integers(0, 3, 100)
    rows = linear_probe.draw(labels, 16, 1, "pets")
    assert (labels[rows] == np.arange(3)[:, None]).all()
    assert len(np.unique(rows)) == rows.size == 48
    np.testing.assert_array_equal(rows[:, :4], linear_probe.draw(labels, 4, 1, "pets"))
    assert (rows != linear_probe.draw(labels, 16, 2, "pets")).any()


def test_a_fifth_of_each_class_is_held_out():
    labels = np.repeat([0, 1, 2], [50, 10, 2])
    is_held_out = linear_probe.held_out(labels, "pets")
    assert np.bincount(labels[is_held_out]).tolist() == [10, 2, 1]
    assert not is_held_out[:10].all(), "not the first of them"


@pytest.mark.parametrize(
    ("line", "expected"), [(0.1, 1), (0.2, 1), (0.5, 2 * 2**0.5), (0.7, 5), (0.8, None)]
)
def test_shots_are_interpolated_on_their_logarithm(line, expected):
    found = linear_probe.shots_to_reach(
        line, (1, 2, 4, 5), np.array([0.2, 0.4, 0.6, 0.7])
    )
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearProbe(make_set([1] * 9), TEST), "single class, 'dog'"),
        (
            lambda: LinearProbe(make_set([0, 1] * 9), TEST),
            "pictures of 'emu', of which",
        ),
        (lambda: LinearProbe(TRAIN, make_set([0], _NAMES[::-1])), "class names of the"),
        (lambda: LinearProbe(TRAIN, make_set([])), "has no pictures"),
        (lambda: LinearProbe(TRAIN, TEST, make_set([])), "has no pictures"),
        (
            lambda: LinearProbe(TRAIN, TEST, make_set([0, 1, 2])),
            "leaves 3 of 6 classes",
        ),
        (lambda: LinearProbe(make_set(range(6)), TEST), "a single picture of a class"),
        (lambda: FewShot(make_set([0, 1] * 3), make_set([0])), "has 3 picture"),
        (lambda: FewShot(TRAIN, TEST, ()), r"shots=\[\]: expected"),
        (lambda: FewShot(TRAIN, TEST, (4, 2)), r"shots=\[4, 2\]: expected"),
        (lambda: FewShot(TRAIN, TEST, (0, 2)), r"shots=\[0, 2\]: expected"),
        (lambda: FewShot(TRAIN, TEST, num_seeds=0), "num_seeds=0: expected"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message) as caught:
        list(make().run(Toy()))
    assert str(caught.value).startswith("pets: ") and "\n" not in str(caught.value)


def test_features_that_are_no_numbers_are_named(monkeypatch):
    def broken(_, dataset):
        return np.full((len(dataset), 2), np.nan, np.float32), dataset.records

    monkeypatch.setattr(Toy, "features", broken)
    with pytest.raises(UserError, match="no finite numbers"):
        list(LinearProbe(TRAIN, TEST).run(Toy()))
