"""Class names and templates: what they are, and that they are found by name."""

import importlib.resources
import json
import random

import pytest

from cloob_jax.data import class_words
from cloob_jax.errors import UserError

# Classes and templates: CLOOB's eight sets (ImageNet V2 has ImageNet's words), and the
# others of CLIP's suite, as counted in OpenAI's data/prompts.md and notebook.
_COUNTS = {
    "birdsnap": (500, 1),
    "caltech101": (102, 34),
    "cars": (196, 8),
    "cifar10": (10, 18),
    "cifar100": (100, 18),
    "country211": (211, 5),
    "dtd": (47, 8),
    "eurosat": (10, 3),
    "fer2013": (7, 6),
    "fgvc_aircraft": (100, 2),
    "flowers": (102, 1),
    "food101": (101, 1),
    "gtsrb": (43, 3),
    "imagenet1k": (1000, 80),
    "mnist": (10, 1),
    "pcam": (2, 1),
    "pets": (37, 1),
    "renderedsst2": (2, 1),
    "resisc45": (45, 18),
    "stl10": (10, 2),
    "sun397": (397, 2),
    "ucf101": (101, 48),
}
_FOLDER = importlib.resources.files("cloob_jax") / "vocabulary/class_words"


def _words(name):
    found = class_words.find(name)
    assert found is not None
    return found


def _unique(pairs):
    assert len(dict(pairs)) == len(pairs), "a key twice"
    return dict(pairs)


def test_every_set_is_there():
    assert sorted(f.name for f in _FOLDER.iterdir()) == [f"{n}.json" for n in _COUNTS]
    assert all(class_words.find(name).name == name for name in _COUNTS)


@pytest.mark.parametrize("name", _COUNTS)
def test_a_set_is_complete_and_says_where_it_is_from(name):
    text = (_FOLDER / f"{name}.json").read_text(encoding="utf-8")
    facts = json.loads(text, object_pairs_hook=_unique)
    assert (len(facts["classes"]), len(facts["templates"])) == _COUNTS[name]
    assert "OpenAI" in facts["source"] and "MIT" in facts["licence"]
    assert all(template.count("{c}") == 1 for template in facts["templates"])
    assert len(set(facts["templates"])) == len(facts["templates"])
    assert all(facts["classes"].values())
    assert set(facts.get("spellings", {}).values()) <= set(facts["classes"])


@pytest.mark.parametrize("name", _COUNTS)
def test_classes_are_found_by_name_in_any_order(name):
    words = _words(name)
    for spell in [str, str.upper, lambda label: label.replace("_", " - ")]:
        labels = random.Random(0).sample(sorted(words.classes), len(words.classes))
        named = words.class_names([spell(label) for label in labels])
        assert named == [words.classes[label] for label in labels]
        part = labels[::2]
        assert words.class_names(part) == [words.classes[label] for label in part]


def test_words_and_other_spellings_name_their_class():
    for name in sorted(set(_COUNTS) - {"imagenet1k"}):
        in_words = list(_words(name).classes.values())[::-1]
        assert _words(name).class_names(in_words) == in_words
    (sign,) = _words("gtsrb").class_names(["17"])
    assert sign == "red circle with white horizonal stripe no entry"
    # As torchvision writes them.
    assert _words("sun397").class_names(["apse/indoor"]) == ["apse indoor"]
    assert _words("pets").class_names(["American Bulldog"]) == ["american bulldog"]


def test_labels_that_are_not_named_alike_are_matched_by_meaning():
    pairs = {
        "flowers": {"ball moss": "air plant"},
        "eurosat": {"HerbaceousVegetation": "brushland or shrubland"},
        "caltech101": {"Faces_easy": "centered face", "car_side": "side of a car"},
        "country211": {"CD": "DR Congo", "XK": "Kosovo", "ZA": "South Africa"},
        "fer2013": {"fear": "fearful", "surprise": "surprised"},
        "ucf101": {"HandstandPushups": "Hand Stand Pushups"},
        "pcam": {"1": "lymph node containing metastatic tumor tissue"},
    }
    for name, words in pairs.items():
        assert _words(name).class_names(list(words)) == list(words.values())


def test_imagenet_is_named_by_wordnet_ids():
    classes = _words("imagenet1k").classes
    assert list(classes) == sorted(classes)
    assert classes["n01440764"] == "tench" and classes["n15075141"] == "toilet paper"
    assert classes["n02012849"] == "crane bird"
    assert classes["n03126707"] == "construction crane"
    # Two pairs of classes share their words, so that the words alone do not do.
    assert len(set(classes.values())) == 998
    missiles = _words("imagenet1k").class_names(["n04008634", "n03773504"])
    assert missiles == ["missile", "missile"]


@pytest.mark.parametrize(
    ("name", "labels", "say"),
    [
        ("cifar10", ["cat", "horze"], "'horze' is no class of it (nearest: 'horse',"),
        ("cifar10", [str(i) for i in range(10)], "'2' is no class .*; and 7 more;"),
        ("cifar10", [""], "'' is no class of it"),
        ("cifar10", ["dog", "Dog"], "'Dog' and 'dog' are one class"),
        ("imagenet1k", ["n01440764", "tench"], "'tench' and 'n01440764' are one"),
        ("imagenet1k", ["missile"], "'missile' is n03773504 and n04008634"),
    ],
)
def test_labels_that_do_not_match_are_named(name, labels, say):
    with pytest.raises(UserError, match=say.replace("(", r"\(")) as caught:
        _words(name).class_names(labels)
    assert str(caught.value).startswith(f"labels of {name}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("wds/vtab/flowers", "flowers"),
        ("wds_vtab-flowers", "flowers"),
        ("oxford_flowers102", "flowers"),
        ("vtab/pcam", "pcam"),
        ("patch_camelyon", "pcam"),
        ("cars196", "cars"),
        ("Stanford-Cars", "cars"),
        ("oxford_iiit_pet", "pets"),
        ("wds/renderedsst2", "renderedsst2"),
        ("eurosat/rgb", "eurosat"),
        ("imagenet2012", "imagenet1k"),
        ("wds/imagenetv2", "imagenet1k"),
        ("imagenet_v2/matched-frequency", "imagenet1k"),
        ("imagenet_a", "imagenet1k"),
        ("wds_imagenet-r", "imagenet1k"),
        ("wds/imagenet_sketch", "imagenet1k"),
    ],
)
def test_a_set_is_found_by_the_names_that_people_have(spelled, name):
    assert _words(spelled) is _words(name)


def test_an_unknown_set_is_none_and_no_alias_belongs_to_two():
    assert class_words.find("my_pictures") is None
    assert class_words.find("wds/") is None
    aliases = [
        "".join(filter(str.isalnum, alias.lower()))
        for file in _FOLDER.iterdir()
        for alias in [
            file.name.removesuffix(".json"),
            *json.loads(file.read_text(encoding="utf-8"))["aliases"],
        ]
    ]
    assert len(set(aliases)) == len(aliases)


def test_sets_that_share_words_are_not_the_same_set():
    assert class_words.same_names("imagenet2012") >= {"imagenet1k", "imagenet"}
    assert class_words.same_names("wds/imagenetv2") == {"imagenetv2"}
    assert class_words.same_names("vtab/flowers") >= {"oxfordflowers102", "flowers"}
    assert class_words.same_names("my_pets") == {"mypets"}


def test_the_folders_of_imagenet_v2_are_numbers_of_imagenet():
    # Sorted as text, as a listing gives them: the place says nothing.
    found = _words("imagenetv2").class_names(["0", "1", "10", "100", "999"])
    assert found[:2] == ["tench", "goldfish"] and found[4] == "toilet paper"
    assert found[2:4] == ["brambling", "black swan"]
