"""Sources written as data sets of TFDS."""

import subprocess
import sys

import pytest
from test_conversion import refused
from test_pipeline import jpeg
from test_tars import write_tar

from cloob_jax import prepare
from cloob_jax.data import sources

pytest.importorskip("tensorflow_datasets")
_COUNT = 7


def write(folder, captions, *arguments):
    members = []
    for number in range(_COUNT):
        image = b"<html>" if number == 3 else jpeg(number)
        members += [(f"k{number}.jpg", image), (f"k{number}.txt", captions(number))]
    write_tar(folder / "0.tar", members)
    given = [folder / "0.tar", folder / "set", "--processes=1", "--shard_size=2"]
    prepare.main(["tfds", *map(str, given), *arguments])
    return [number for number in range(_COUNT) if number != 3]


def test_training_reads_it(tmp_path, capsys):
    kept = write(tmp_path, lambda n: f"größe {n}\nsecond".encode(), "--split=val")
    pattern = f"tfds:{tmp_path}/set:val"
    assert f"--config.data.train={pattern}" in capsys.readouterr().out
    records = sources.build(pattern)
    assert [records[n] for n in range(len(records))] == [
        (jpeg(n), f"größe {n}\nsecond".encode()) for n in kept
    ]
    assert "k3" in (tmp_path / "set/my_pairs/1.0.0/dropped.jsonl").read_text()


def test_tfds_reads_it_without_tensorflow(tmp_path):
    kept = write(tmp_path, lambda n: f"größe {n}".encode())
    code = f"""
import sys, tensorflow_datasets as tfds
builder = tfds.builder("my_pairs", data_dir={str(tmp_path / "set")!r})
decoders = {{"image": tfds.decode.SkipDecoding()}}
records = builder.as_data_source("train", decoders=decoders)
print([(r["key"].decode(), len(r["image"]), r["caption"].decode()) for r in records])
print(next(iter(builder.as_data_source("train")))["image"].shape)
print(builder.info.features["caption"], "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pairs = [(f"k{n}", len(jpeg(n)), f"größe {n}") for n in kept]
    assert done.stdout.splitlines()[:2] == [repr(pairs), "(24, 20, 3)"]
    assert done.stdout.splitlines()[2].endswith("False")


def test_half_of_it_is_no_data_set(tmp_path, capsys, monkeypatch):
    from cloob_jax.preparation import shard_writing

    def interrupted(job, folder, number, report):
        if number == 2:
            raise KeyboardInterrupt
        return write_file(job, folder, number, report)

    write_file = shard_writing.write
    monkeypatch.setattr(shard_writing, "write", interrupted)
    with pytest.raises(SystemExit) as ended:
        write(tmp_path, lambda n: b"words")
    assert ended.value.code == 130
    capsys.readouterr()
    pattern = f"tfds:{tmp_path}/set:train"
    assert "no data set in" in refused(capsys, "index", pattern)
    monkeypatch.undo()
    write(tmp_path, lambda n: b"words")
    assert len(sources.build(pattern)) == _COUNT - 1


@pytest.mark.parametrize("flag", ["--name=my-pairs", "--split=train[:10%]"])
def test_names_that_tfds_cannot_have_are_refused(tmp_path, capsys, flag):
    line = refused(capsys, "tfds", "0.tar", tmp_path / "set", flag)
    assert flag in line and "small letters" in line


def test_without_the_library_it_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    line = refused(capsys, "tfds", "0.tar", tmp_path / "set")
    assert "pip install 'cloob_jax[tfds]'" in line
