"""CLIP_benchmark's layout, and what is said when a part of it is wrong."""

import pytest
from test_pipeline import jpeg
from test_tars import write_tar

from cloob_jax.data import labelled, pictures
from cloob_jax.errors import UserError

_NAMES = ["cat", "dog", "emu"]


def write_set(root, labels, names=_NAMES, templates=("a {c}.", "the {c}.")):
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("\n".join(names) + "\n")
    path = root / "zeroshot_classification_templates.txt"
    path.write_text("\n".join(templates) + "\n")
    members = []
    for number, label in enumerate(labels):
        members.append((f"s{number:04d}.cls", str(label).encode()))
        members.append((f"s{number:04d}.jpg", jpeg(number)))
    write_tar(root / "test" / "0.tar", members)
    return root


def test_reads_pictures_labels_and_words(tmp_path):
    root = write_set(tmp_path / "set", [2, 0, 1, 1, 0])
    found = labelled.open_set("config.evals.pets", "pets", str(root))
    assert len(found) == 5 and found[0] == (jpeg(0), 2)
    assert found.class_names == _NAMES
    assert found.prompt_sets == {
        "ensemble": ["a {c}.", "the {c}."],
        "openai": ["a photo of a {c}, a type of pet."],  # Oxford's pets have the name
        "single_template": ["a photo of a {c}."],
    }
    batches = list(pictures.batches(found, batch_size=2, image_size=16))
    assert [images.shape for images, _ in batches] == [(2, 16, 16, 3)] * 2 + [
        (1, 16, 16, 3)
    ]
    assert [label for _, labels in batches for label in labels] == [2, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "classnames.txt").unlink(),
            "classnames.txt is missing",
        ),
        (lambda root: (root / "classnames.txt").write_text(" \n"), "is empty"),
        (
            lambda root: (root / "zeroshot_classification_templates.txt").write_text(
                "a"
            ),
            "template 'a' lacks",
        ),
        (
            lambda root: (root / "test" / "0.tar").unlink(),
            "no data set in.*looked for.*classnames.txt",
        ),
        (
            lambda root: (root / "classnames.txt").write_text("cat\n\nemu\n"),
            "has an empty line",
        ),
        (
            lambda root: (root / "classnames.txt").write_text("\ncat\ndog\n"),
            "has an empty line",
        ),
        (
            lambda root: (root / "test" / "nshards.txt").write_text("2"),
            "says 2, but there are 1 tars",
        ),
    ],
)
def test_a_missing_part_is_named(tmp_path, damage, message):
    root = write_set(tmp_path / "set", [0, 1])
    damage(root)
    with pytest.raises(UserError, match=rf"config\.evals\.pets.*{message}"):
        labelled.open_set("config.evals.pets", "pets", str(root))


@pytest.mark.parametrize("label", [3, -1, "cat"])
def test_a_label_without_a_class_is_named(tmp_path, label):
    found = labelled.open_set(
        "config.evals.pets", "pets", str(write_set(tmp_path / "set", [0, label]))
    )
    with pytest.raises(
        UserError, match=r"pets: 0.tar s0001: its label is.*from 0 to 2"
    ):
        found[1]


def write_folder(root, counts):
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.JPEG").write_bytes(jpeg(number))
    return root


def test_classes_of_a_folder_are_known_by_name(tmp_path):
    # In another order than in ImageNet: by place, n01440764 would be another class.
    counts = {"test/n02123045": 1, "test/n01440764": 2, "test/.cache": 1}
    root = write_folder(tmp_path / "imagenet", counts)
    (root / "test" / "n01440764" / "notes.txt").write_text("no picture")
    found = labelled.open_set("x", "imagenet", str(root))
    assert found.class_names == ["tench", "tabby cat"]
    assert len(found.prompt_sets["ensemble"]) == 80
    assert [found[number][1] for number in range(3)] == [0, 0, 1]
    assert found.where(2).endswith("test n02123045/0.JPEG")


@pytest.mark.parametrize("split", ["val", "validation", "."])
def test_folders_of_ones_own(tmp_path, split):
    counts = {f"{split}/grey_cat": 1, f"{split}/emu": 1}
    found = labelled.open_set("x", "mine", str(write_folder(tmp_path / "a", counts)))
    assert found.class_names == ["emu", "grey cat"]
    assert found.prompt_sets == {"ensemble": ["a photo of a {c}."]}


@pytest.mark.parametrize(
    ("name", "counts", "message"),
    [
        ("mine", {"test/cat": 1, "test/dog": 0}, "dog holds no picture"),
        ("mine", {"test/cat": 3}, "has one class, 'cat'"),
        ("mine", {"train/cat": 1}, r"looked for \{test,validation,val\}/\*\.tar"),
        ("cifar10", {"test/cat": 1, "test/ca": 1}, "x: labels of cifar10: 'ca'.*own"),
    ],
)
def test_folders_that_cannot_be_used_are_named(tmp_path, name, counts, message):
    root = write_folder(tmp_path / "set", counts)
    with pytest.raises(UserError, match=message):
        labelled.open_set("x", name, str(root))
