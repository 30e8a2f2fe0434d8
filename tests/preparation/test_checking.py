"""`prepare check` on data sets with a fault each: it finds that one, and no other."""

import functools
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from cloob_jax import prepare
from cloob_jax.preparation import checkup

_WORDS = "cat dog tree house river man woman child red blue tall small old new".split()


@functools.cache
def picture(number, size=(120, 100), kind="JPEG", mode="RGB"):
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize(size)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def caption(number, length=6):
    return " ".join(np.random.default_rng(number).choice(_WORDS, length)).encode()


def clean():
    """Three shards of 30 pairs, as their members."""
    shards = {}
    for shard in range(3):
        shards[f"{shard:05d}.tar"] = members = {}
        for number in range(30):
            key = f"{shard:05d}{number:04d}"
            members[f"{key}.jpg"] = picture(100 * shard + number)
            members[f"{key}.txt"] = caption(100 * shard + number)
    return shards


def write(folder, shards):
    for name, members in shards.items():
        with tarfile.open(folder / name, "w") as tar:
            for member, content in getattr(members, "items", lambda m=members: m)():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def check(folder, capsys, *arguments):
    """Exit status, the printed page, and what the JSON says."""
    file = folder / "report.json"
    arguments = ["check", str(folder), "--image_size=64", f"--json={file}", *arguments]
    try:
        prepare.main(arguments)
    except SystemExit as error:
        status = error.code
    else:
        status = 0
    return status, capsys.readouterr().out, json.loads(file.read_text())


@pytest.fixture
def no_rates(monkeypatch):
    monkeypatch.setattr(checkup, "_rates", lambda source, given: iter(()))


def put(**changes):
    """Plants what is given for a member of the first shard."""

    def plant(folder):
        shards = clean()
        for name, content in changes.items():
            shards["00000.tar"][f"00000{name[1:].replace('_', '.')}"] = content
        write(folder, shards)

    return plant


def put_in(numbers, extension, make):
    """Plants `make(number)` in some pairs of the first shard."""
    return put(**{f"k{n:04d}_{extension}": make(n) for n in numbers})


def without(member):
    def plant(folder):
        shards = clean()
        del shards["00000.tar"][member]
        write(folder, shards)

    return plant


def cut_end(folder):
    write(folder, clean())
    path = folder / "00001.tar"
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    size = -(-path.stat().st_size // 512) * 512
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))


def key_twice(folder):
    shards = clean()
    pairs = list(shards["00000.tar"].items())
    shards["00000.tar"] = [*pairs, *pairs[:2]]
    write(folder, shards)


def unfinished(folder):
    write(folder, clean())
    for number in (0, 2):
        (folder / f"{number:05d}_stats.json").write_text("{}")


def number_missing(folder):
    write(folder, clean())
    (folder / "00001.tar").unlink()


def nearly_empty(folder):
    shards = clean()
    shards["00001.tar"] = dict(list(shards["00001.tar"].items())[:2])
    write(folder, shards)


_HALF = picture(5)[: len(picture(5)) // 2]
_CASES = {
    "undecodable image": (put(k0003_jpg=_HALF), 1, "prepare arrayrecord"),
    "not an image": (
        put(k0003_jpg=b"<html>", k0007_jpg=b""),
        2,
        "max_bad_fraction=0.023",  # 2 of 90
    ),
    "empty caption": (put(k0003_txt=b"\n "), 1, "prepare arrayrecord"),
    "bad caption": (put(k0003_txt=b"caf\xe9"), 1, "prepare arrayrecord"),
    "images without a caption": (without("000000003.txt"), 1, "left out"),
    "captions without an image": (without("000000003.jpg"), 1, "left out"),
    "several images under one key": (put(k0003_png=picture(3)), 1, "leave one"),
    "repeated keys": (key_twice, 1, "key of its own"),
    "damaged tars": (cut_end, 1, "fetch them anew"),
    "unfinished tars": (unfinished, 1, "run img2dataset again"),
    "missing numbers": (number_missing, 1, "fetch them"),
    "nearly empty files": (nearly_empty, 1, "fetch them anew"),
    "repeated images": (put_in(range(6), "jpg", lambda n: picture(999)), 6, "copies"),
    "repeated captions": (put_in(range(7), "txt", lambda n: b"image"), 7, "leave"),
    "HTML in captions": (
        put_in(range(2), "txt", lambda n: b"<b>%s</b><br/>" % caption(n)),
        2,
        "take them out",
    ),
    "truncated captions": (
        put_in(range(12), "txt", lambda n: caption(n, 100)),
        12,
        "config.model.context_length=102",
    ),
    "small images": (
        put_in(range(10), "jpg", lambda n: picture(n, (50, 90))),
        10,
        "config.data.image_size=50",
    ),
    "large images": (
        put_in(range(25), "jpg", lambda n: picture(n, (128, 300))),
        25,
        "--resize=73",
    ),
}


def test_a_clean_set_has_no_finding(tmp_path, capsys, no_rates):
    write(tmp_path, clean())
    status, out, report = check(tmp_path, capsys)
    assert (status, report["findings"]) == (0, [])
    assert out.startswith(f"{tmp_path}: 90 records") and out.endswith("0 findings\n")
    assert report["facts"]["files"] == {"files": 3, "least": 30, "most": 30}
    assert report["facts"]["images"]["short_side"]["median"] == 100


@pytest.mark.parametrize("name", _CASES)
def test_a_planted_fault_is_the_only_finding(tmp_path, capsys, no_rates, name):
    plant, count, fix = _CASES[name]
    plant(tmp_path)
    status, out, report = check(tmp_path, capsys)
    found = report["findings"]
    assert [(each["name"], each["count"]) for each in found] == [(name, count)]
    assert status == 1 and fix in found[0]["fix"]
    assert f"1. {name}: " in out and f"   fix: {found[0]['fix']}" in out
    assert max(map(len, out.splitlines())) <= 100 + len(str(tmp_path))


def test_what_is_not_usual_is_a_fact(tmp_path, capsys, no_rates):
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(buffer, "JPEG", exif=exif)
    plant = put(
        k0001_jpg=buffer.getvalue(),
        k0002_jpg=picture(2, mode="CMYK"),
        k0003_jpg=picture(3, kind="PNG", mode="P"),
        k0004_jpg=picture(4, kind="WEBP"),
        k0008_jpg=picture(8, kind="PNG", mode="RGBA"),
        k0005_jpg=picture(5, kind="PNG", mode="I;16"),
        k0006_txt=b"one\ntwo\nthree",
    )
    plant(tmp_path)
    status, out, report = check(tmp_path, capsys)
    assert status == 0, out
    found = report["facts"]["formats"]
    assert found == {"JPEG": 86, "PNG": 3, "WEBP": 1} | dict.fromkeys(
        ("CMYK", "palette", "alpha", "16 bits", "turned by Exif"), 1
    )
    assert "captions     1 to 3 a record" in out


def test_a_sample_is_a_sample(tmp_path, capsys, no_rates):
    write(tmp_path, clean())
    _, out, report = check(tmp_path, capsys, "--records=24")
    assert report["facts"]["bad records"]["count"] == 0 and "0 of 24 (0 %)" in out
    # None of 24 is bad: one in eight may be, by the rule of three.
    assert report["facts"]["bad records"]["max_bad_fraction"] == 3 / 24


def test_a_table_tells_its_columns(tmp_path, capsys, no_rates):
    (tmp_path / "0.jpg").write_bytes(picture(0))
    rows = ["id;filepath;title", "1;0.jpg;a cat", "2;gone.jpg;a dog"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(SystemExit) as error:
        prepare.main(["check", str(tmp_path / "t.csv"), "--image_size=64"])
    out = capsys.readouterr().out
    assert error.value.code == 1
    assert "columns      semicolons; images from filepath, captions from title" in out
    assert "1. missing image: 1 of 2 (50 %) records" in out


def test_a_set_without_a_good_record_is_told_of(tmp_path, capsys):
    write(
        tmp_path,
        {"0.tar": {"a.jpg": b"no", "a.txt": b"a", "b.jpg": b"", "b.txt": b"b"}},
    )
    status, out, report = check(tmp_path, capsys, "--throughput", "--seconds=0.01")
    assert status == 1
    assert "is SOURCE the right one?" in report["findings"][0]["fix"]
    assert "not measured: 8 records drawn in a row are bad" in " ".join(out.split())
    assert "8 records" in report["throughput"]["error"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--records=0", "--records=0: expected 1 or more, or all"),
        ("--records=many", "--records=many: expected 1 or more, or all"),
        ("--image_size=0", "--image_size=0: expected at least 1"),
        ("--context_length=1", "--context_length=1: expected at least 2"),
        ("--images_per_second=0", "--images_per_second=0: expected at least 1"),
        ("--seconds=nan", "--seconds=nan: expected more than 0"),
        ("--json=no/report.json", "--json=no/report.json: cannot be written"),
        ("--json=.", "--json=.: cannot be written"),
        ("--image_size=big", "argument --image_size: invalid int value: 'big'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, argument, expected):
    with pytest.raises(SystemExit) as error:
        prepare.main(["check", str(tmp_path), argument])
    said = capsys.readouterr()
    assert error.value.code == 2 and not said.out
    assert len(said.err.splitlines()) == 1 and expected in said.err
