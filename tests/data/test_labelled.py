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
    found = labelled.open_set("pets", str(root))
    assert len(found) == 5 and found[0] == (jpeg(0), 2)
    assert found.prompts(1) == ["a dog.", "the dog."]
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
            "classnames.txt cannot be read",
        ),
        (lambda root: (root / "classnames.txt").write_text(" \n"), "is empty"),
        (
            lambda root: (root / "zeroshot_classification_templates.txt").write_text(
                "a"
            ),
            "template 'a' lacks",
        ),
        (lambda root: (root / "test" / "0.tar").unlink(), "no such tar"),
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
        labelled.open_set("pets", str(root))


@pytest.mark.parametrize("label", [3, -1, "cat"])
def test_a_label_without_a_class_is_named(tmp_path, label):
    found = labelled.open_set("pets", str(write_set(tmp_path / "set", [0, label])))
    with pytest.raises(
        UserError, match=r"pets: 0.tar s0001: its \.cls holds.*from 0 to 2"
    ):
        found[1]
