"""Data sets of TensorFlow Datasets, made and read without TensorFlow."""

import sys

import pytest
from test_pipeline import jpeg

from cloob_jax.data import labelled, tfds
from cloob_jax.errors import UserError

_IDS = ["n01440764", "n01443537", "n02123045"]  # tench, goldfish, tabby cat


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("tensorflow_datasets")


def prepare(library, directory, labels, split="validation", version="5.1.0"):
    """A data set in the layout of `imagenet2012`, as TFDS itself writes it."""
    features = library.features

    class Imagenet2012(library.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = library.core.Version(version)

        def _info(self):
            return library.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "file_name": features.Text(),
                        "image": features.Image(encoding_format="jpeg"),
                        "label": features.ClassLabel(names=_IDS),
                    }
                ),
            )

        def _split_generators(self, _):
            return {split: self._generate_examples()}

        def _generate_examples(self):
            for number, label in enumerate(labels):
                name = f"{number}.JPEG"
                path = directory / name
                path.write_bytes(jpeg(number))
                yield name, {"file_name": name, "image": str(path), "label": label}

    directory.mkdir(parents=True, exist_ok=True)
    builder = Imagenet2012(data_dir=directory, file_format="array_record")
    builder.download_and_prepare()
    return directory / "imagenet2012"


def test_pictures_come_as_they_were_and_classes_by_name(library, tmp_path):
    root = prepare(library, tmp_path, [2, 0, 1, 1, 0])
    found = labelled.open_set("x", "imagenet2012", str(root))
    assert found.class_names == ["tench", "goldfish", "tabby cat"]
    records = {found[number] for number in range(len(found))}
    assert records == {(jpeg(n), label) for n, label in enumerate([2, 0, 1, 1, 0])}
    assert found.where(3) == "imagenet2012/5.1.0 validation 3"
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet_a"])
def test_a_set_of_some_classes_has_no_others(library, tmp_path, name):
    # TFDS gives ImageNet-A and R, of 200 classes, the names of all thousand.
    root = prepare(library, tmp_path, [2, 0, 2], split="test")
    found = labelled.open_set("x", name, str(root))
    assert found.class_names == ["tench", "tabby cat"]
    assert sorted(found[number][1] for number in range(3)) == [0, 1, 1]


def test_the_latest_version_of_one_set(library, tmp_path):
    root = prepare(library, tmp_path, [0, 1], version="9.0.0")
    prepare(library, tmp_path, [0, 1, 2], version="10.0.0")
    assert tfds.find(root).name == "10.0.0"
    (root / "10.0.0").rename(tmp_path / "10.0.0")
    (root / "9.0.0").rename(tmp_path / "9.0.0")
    for variant, version in (("topimages", "9.0.0"), ("threshold-0.7", "10.0.0")):
        (root / variant).mkdir()
        (tmp_path / version).rename(root / variant / version)
    with pytest.raises(UserError, match=r"several.*threshold-0\.7 or topimages"):
        labelled.open_set("x", "imagenet_v2", str(root))
    assert tfds.find(root / "topimages").name == "9.0.0"


def test_mistakes_are_named(library, tmp_path, monkeypatch):
    root = prepare(library, tmp_path, [0, 1], split="train")
    with pytest.raises(UserError, match="no split test or validation or val, but tr"):
        labelled.open_set("x", "imagenet2012", str(root))
    (root / "5.1.0" / "features.json").write_text("{")
    with pytest.raises(UserError, match=r"x: .*5\.1\.0 cannot be read as a TFDS"):
        labelled.open_set("x", "imagenet2012", str(root), "train")
    info = root / "5.1.0" / "dataset_info.json"
    whole = info.read_text()
    for damaged in ("{", "[]", '{"splits": 1}'):
        info.write_text(damaged)
        with pytest.raises(UserError, match=r"dataset_info\.json is damaged"):
            labelled.open_set("x", "imagenet2012", str(root), "train")
    info.write_text(whole)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'cloob_jax\[tfds\]'"):
        labelled.open_set("x", "imagenet2012", str(root), "train")
