"""Pictures with captions in the forms that people have, and what is said when wrong."""

import json

import pytest
from test_pipeline import jpeg
from test_tars import write_tar

from cloob_jax.data import captioned
from cloob_jax.errors import UserError

_COCO = {
    "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
    "annotations": [
        {"image_id": 3, "caption": "a cat\n"},
        {"image_id": 7, "caption": "a dog "},
        {"image_id": 3, "caption": "the cat"},
    ],
}
_KARPATHY = {
    "images": [
        {
            "filepath": "val",
            "filename": "a.jpg",
            "split": "test",
            "sentences": [{"raw": "a cat"}, {"raw": "the\ncat"}],
        },
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "a dog"}]},
        {"filename": "c.jpg", "split": "train", "sentences": [{"raw": "an emu"}]},
    ]
}
_TOKENS = "a.jpg#0\ta cat\na.jpg#1\tthe cat\nb.jpg#0\ta dog\n"


def write_tars(root, captions):
    (root / "test").mkdir(parents=True)
    members = []
    for number, texts in enumerate(captions):
        members.append((f"s{number:04d}.jpg", jpeg(number)))
        members.append((f"s{number:04d}.txt", "\n".join(texts).encode()))
    write_tar(root / "test" / "0.tar", members)
    return root


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    (root / "val").mkdir(parents=True)
    for number, name in enumerate(["a.jpg", "val/a.jpg", "b.jpg"]):
        (root / name).write_bytes(jpeg(number))
    return root


def test_reads_tars(tmp_path):
    root = write_tars(tmp_path / "set", [["a cat", "the cat"], ["a dog"]])
    found = captioned.open_set("config.evals.pets", "pets", str(root))
    assert len(found) == 2
    assert found[0] == (jpeg(0), ["a cat", "the cat"]) and found[1][1] == ["a dog"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dataset.json", json.dumps(_KARPATHY), ["val/a.jpg", "b.jpg"]),
        ("captions_val2017.json", json.dumps(_COCO), ["a.jpg", "b.jpg"]),
        ("Flickr8k.token.txt", _TOKENS, ["a.jpg", "b.jpg"]),
        ("results_20130124.token", _TOKENS, ["a.jpg", "b.jpg"]),
    ],
)
def test_reads_lists_beside_a_folder(folder, name, text, expected):
    path = folder.parent / name
    path.write_text(text)
    found = captioned.open_set(
        "config.evals.pets", "pets", str(folder), captions=str(path)
    )
    read = {found.records.name(i)[1]: found[i] for i in range(len(found))}
    assert list(read) == expected
    cat, dog = (read[name] for name in expected)
    assert cat[1] == ["a cat", "the cat"] and dog[1] == ["a dog"]
    assert cat[0] == (folder / expected[0]).read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected Karpathy's or COCO's JSON.*JSONDecodeError"),
        ('{"images": [{"split": "test"}]}', "expected Karpathy's.*KeyError"),
        ("[1]", "expected Karpathy's or COCO's JSON"),
        (json.dumps(_KARPATHY).replace("test", "val"), "no picture.*split 'test'"),
        (json.dumps(_COCO).replace("a.jpg", "z.jpg"), "1 of the 2.*z.jpg; fetch them"),
        (json.dumps(_COCO).replace("a dog ", " "), "b.jpg has no caption"),
        (json.dumps(_COCO).replace('"id": 3', '"id": 4'), "KeyError: 3"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(folder, text, message):
    path = folder.parent / "list.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"config\.evals\.pets(?s:.*){message}"):
        captioned.open_set("config.evals.pets", "pets", str(folder), captions=str(path))


def test_other_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder"):
        captioned.open_set("config.evals.pets", "pets", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="captions=.*gone.json cannot be read"):
        captioned.open_set(
            "config.evals.pets", "pets", str(folder), captions="gone.json"
        )
    (folder.parent / "list.txt").write_text("a.jpg a cat\n")
    with pytest.raises(UserError, match="expected Karpathy's.*ValueError"):
        captioned.open_set(
            "config.evals.pets",
            "pets",
            str(folder),
            captions=f"{folder.parent}/list.txt",
        )
    for text, message in (([""], "it has no caption"), (["\udcff"], "utf-8")):
        root = tmp_path / message
        (root / "test").mkdir(parents=True)
        encoded = "\n".join(text).encode("utf-8", "surrogateescape")
        members = [("s0.jpg", jpeg(0)), ("s0.txt", encoded)]
        write_tar(root / "test" / "0.tar", members)
        found = captioned.open_set("config.evals.pets", "pets", str(root))
        with pytest.raises(UserError, match=f"pets: 0.tar s0: .*{message}"):
            found[0]
