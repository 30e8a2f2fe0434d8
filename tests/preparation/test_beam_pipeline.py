"""Conversion as a pipeline of Apache Beam."""

import sys

import pytest
from test_conversion import _GOOD, convert, good, read, refused, tars, tree

from cloob_jax import preparation, prepare

__all__ = ["tars"]  # a fixture
# Beam's own, of which there are many.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def beam():
    return pytest.importorskip("apache_beam", reason="the extra beam is not installed")


def run(*arguments, runner="FnApiRunner"):
    options = ["--beam", "--", f"--runner={runner}"]
    prepare.main(["arrayrecord", *map(str, arguments), *options])


def test_it_writes_the_same_bytes(beam, tars, tmp_path, capsys):
    convert(tars, tmp_path / "whole", "--shard_size=5")
    run(tars, tmp_path / "out", "--shard_size=5")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    first, *_ = sorted((tmp_path / "out").glob("*.array_record*"))
    first.unlink()
    run(tars, tmp_path / "out", "--shard_size=5")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert "8 of 12 records in 3 files" in capsys.readouterr().out


def test_it_writes_to_a_bucket(beam, tars, tmp_path, capsys, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol = "s3"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("s3:/"))

    fsspec.register_implementation("s3", Bucket, clobber=True)
    run(tars, "s3://bucket/out", "--shard_size=5")
    store = fsspec.filesystem("s3")
    names = [name for name in store.find("s3://bucket/out") if ".shards" not in name]
    for name in names:
        (tmp_path / name.rpartition("/")[2]).write_bytes(store.cat(name))
    assert len(names) == 5 and not any("partial" in name for name in names)
    assert read(tmp_path) == [(f"k{n}", *good(n)) for n in _GOOD]
    line = refused(capsys, "arrayrecord", tars, "s3://bucket/out", "--beam")
    assert "begun with other settings" in line


def test_what_a_runner_makes_of_a_failure_is_one_line(beam, tars, tmp_path, capsys):
    arguments = ["arrayrecord", str(tars), str(tmp_path / "out"), "--beam", "--"]
    with pytest.raises(SystemExit) as ended:
        prepare.main([*arguments, "--runner=NoRunner"])
    assert ended.value.code == 2
    assert (
        "the pipeline failed: Unexpected pipeline runner: NoRunner"
        in (capsys.readouterr().err.splitlines()[-1])
    )


def test_without_beam_it_names_the_extra(tars, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    name = "beam_pipeline"
    monkeypatch.delitem(sys.modules, f"cloob_jax.preparation.{name}", raising=False)
    monkeypatch.delattr(preparation, name, raising=False)
    line = refused(capsys, "arrayrecord", tars, tmp_path / "out", "--beam")
    assert "pip install 'cloob_jax[beam]'" in line
    assert "the runner decides" in refused(
        capsys, "arrayrecord", tars, tmp_path / "out", "--beam", "--processes=2"
    )
