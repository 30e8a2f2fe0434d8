"""Pictures with captions in data sets of TensorFlow Datasets."""

import concurrent.futures
import pickle
import sys

import numpy as np
import pytest
from test_pipeline import jpeg

from cloob_jax.data import augment, sources
from cloob_jax.errors import UserError

_COUNT = 20


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("tensorflow_datasets")


def prepare(library, folder, name, caption, feature, value, image="image"):
    """A data set whose examples have `value(number)` for the feature `caption`."""
    features = library.features

    def describe(self):
        pictures = features.Image(encoding_format="jpeg")
        parts = {"number": library.features.Scalar(np.int64), image: pictures}
        parts[caption] = feature
        return library.core.DatasetInfo(
            builder=self, features=features.FeaturesDict(parts)
        )

    def examples(self, _):
        def generate():
            for number in range(_COUNT):
                path = folder / f"{number}.jpg"
                path.write_bytes(jpeg(number))
                yield (
                    number,
                    {"number": number, image: str(path), caption: value(number)},
                )

        return {"train": generate(), "val": generate()}

    members = {
        "VERSION": library.core.Version("1.0.0"),
        "_info": describe,
        "_split_generators": examples,
        "_generate_examples": None,
        "name": name,
    }
    kind = type(
        name, (library.core.GeneratorBasedBuilder,), members, skip_registration=True
    )
    folder.mkdir(exist_ok=True)
    kind(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder / name


def one(number):
    return f"größe {number}\nof it"


@pytest.fixture(scope="module")
def root(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return prepare(library, folder, "single", "caption", library.features.Text(), one)


def test_reads_what_was_prepared(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root.parent))
    for pattern in (
        "tfds:single:train",
        f"tfds:{root}:train",
        f"tfds:{root}/1.0.0:val",
    ):
        records = sources.build(pattern)
        pairs = {records[number] for number in range(len(records))}
        assert pairs == {(jpeg(n), f"größe {n} of it".encode()) for n in range(_COUNT)}
    assert records.name(3) == ("single/1.0.0 val", "3")
    assert "tensorflow" not in sys.modules
    with pytest.raises(IndexError):
        records[_COUNT]


def test_parts_of_splits(root):
    whole, tenth, both = (
        sources.build(f"tfds:{root}:{split}")
        for split in ("train", "train[:10%]", "train[50%:]+val[:5]")
    )
    assert [len(tenth), len(both)] == [2, 15]
    assert tenth[1] == whole[1] and both[0] == whole[10]
    assert len({s.fingerprint for s in (whole, tenth, both)}) == 3
    union = sources.build(f"tfds:{root}:train[:10%]::tfds:{root}:val")
    assert len(union) == 22


@pytest.mark.parametrize("kind", ["sequence", "of_texts"])
def test_several_captions(library, tmp_path, kind):
    text, sequence = library.features.Text(), library.features.Sequence
    captions = [[f"one {n}", "two\nlines"] for n in range(_COUNT)]
    if kind == "sequence":
        root = prepare(
            library,
            tmp_path,
            "several",
            "captions",
            sequence(text),
            captions.__getitem__,
        )
    else:  # as coco_captions has them
        root = prepare(
            library,
            tmp_path,
            "several",
            "captions",
            sequence({"id": library.features.Scalar(np.int64), "text": text}),
            lambda n: [{"id": i, "text": t} for i, t in enumerate(captions[n])],
        )
    records = sources.build(f"tfds:{root}:train")
    pairs = {records[number] for number in range(_COUNT)}
    assert pairs == {(jpeg(n), b"one %d\ntwo lines" % n) for n in range(_COUNT)}


def test_features_of_other_names(library, tmp_path):
    feature = library.features.Text()
    root = prepare(library, tmp_path, "odd", "alt", feature, one, image="picture")
    assert len(sources.build(f"tfds:{root}:train", "picture,alt")) == _COUNT
    for columns, message in ((None, "no image with caption"), ("image,al", "is alt")):
        with pytest.raises(UserError, match=rf"{message}.*config\.data\.columns"):
            sources.build(f"tfds:{root}:train", columns)


def test_threads_and_processes_share_it(root):
    records = sources.build(f"tfds:{root}:train")
    expected = [records[number] for number in range(_COUNT)]
    pickled = pickle.dumps(records)
    copy = pickle.loads(pickled)
    assert len(pickled) < 1000
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(copy.__getitem__, range(_COUNT))) == expected


def test_a_damaged_record_is_bad_and_the_others_are_not(root, tmp_path):
    copy = tmp_path / "single/1.0.0"
    copy.mkdir(parents=True)
    for file in (root / "1.0.0").iterdir():
        content = bytearray(file.read_bytes())
        if "train" in file.name:
            content[3000] ^= 1  # of the third record or so, compressed
        (copy / file.name).write_bytes(content)
    records, bad = sources.build(f"tfds:{copy}:train"), []
    for number in range(_COUNT):
        try:
            records[number]
        except augment.BadRecord as error:
            bad.append(str(error))
    assert len(bad) == 1 and bad[0].startswith("damaged record: ")


def test_mistakes_are_named(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for pattern, message in (
        ("tfds:single", "expected tfds:NAME:SPLIT or"),
        ("tfds:single:", "expected tfds:NAME:SPLIT or"),
        ("tfds:single:train", rf"no data set in {tmp_path}/single \(\$TFDS_DATA_DIR"),
        (f"tfds:{root}:test", "no split test, but train, val"),
        (f"tfds:{root}:train+tset[:3]", "no split tset, but train, val"),
        (f"tfds:{root}:train[:x]", "cannot be read as a TFDS data set"),
        (f"tfds:{root}:train[:0]", r"no record in train\[:0\]|cannot be read"),
    ):
        with pytest.raises(UserError, match=rf"config\.data\.train.*{message}"):
            sources.build(pattern)
    with pytest.raises(augment.BadRecord, match="number holds no text"):
        sources.build(f"tfds:{root}:train", "image,number")[0]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'cloob_jax\[tfds\]'"):
        sources.build(f"tfds:{root}:train")
