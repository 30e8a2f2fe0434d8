"""Damaged files of every kind: a picture of the right shape, or a `BadRecord`.

`FUZZ_CASES=10000 pytest tests/data/test_fuzz.py` tries more, each time others.
"""

import contextlib
import gc
import math
import os
import signal
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_augment import encode
from test_random_crop import decibels, photograph
from test_tars import write_tar

from cloob_jax.data import array_records, augment, pipeline, random_crop, sources
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer

_CASES = int(os.environ.get("FUZZ_CASES", "0"))
fuzz = settings(
    max_examples=_CASES or 300,
    derandomize=not _CASES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# A thread that an earlier test has left draws too: beartype does, at each list.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
_KINDS = {"not an image", "undecodable image", "too many pixels"}
_SIZE = 32  # of the crops
_TOKENIZER = Tokenizer(16)


def originals():
    """One small file of each kind that people have."""
    picture = photograph(60, 44)
    still = picture.convert("RGBA")
    still.putalpha(Image.linear_gradient("L").resize(picture.size))
    moving = {"save_all": True, "append_images": [picture.rotate(90)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    deep = Image.fromarray(np.arange(60 * 44, dtype=np.uint16).reshape(44, 60) * 24)
    return [
        encode(picture, "JPEG", quality=90),
        encode(picture, "JPEG", progressive=True),
        encode(picture, "JPEG", subsampling=0, restart_marker_blocks=4, optimize=True),
        encode(picture.convert("L"), "JPEG"),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(picture, "JPEG", exif=exif, comment=b"a comment"),
        encode(picture),
        encode(picture.quantize(16), transparency=3),
        encode(picture.convert("1")),
        encode(still),
        encode(deep),
        encode(picture.convert("LA"), exif=exif),
        encode(picture, "PNG", **moving),
        interlaced(picture),
        encode(picture, "WEBP"),
        encode(picture, "WEBP", lossless=True, exif=exif),
        encode(still, "WEBP", quality=50),
        encode(picture, "WEBP", **moving),
    ]


def chunk(kind, content):
    return b"".join(
        (
            struct.pack(">I", len(content)),
            kind,
            content,
            struct.pack(">I", zlib.crc32(kind + content)),
        )
    )


def interlaced(picture):
    """A PNG by Adam7, which PIL reads but does not write."""
    pixels, rows = np.asarray(picture.convert("RGB")), []
    for x, y, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        rows += [b"\0" + row.tobytes() for row in pixels[y::down, x::across]]
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 1)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


_ORIGINALS = originals()
_files = st.sampled_from(_ORIGINALS)
_places = st.integers(0, 2**16)
_sides = st.sampled_from([0, 1, 2, 61, 4000, 10000, 16383, 16384, 65535, 2**31 - 1])


@st.composite
def damaged(draw, files=_files):
    """One of the files, with a few changes."""
    content = bytearray(draw(files))
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        place = draw(_places) % len(content)
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from("truncate flip swap insert remove sides".split())):
            case "truncate":
                del content[place:]
            case "flip":
                content[place] ^= draw(st.integers(1, 255))
            case "swap":
                other = draw(_places) % len(content)
                content[place : place + length] = content[other : other + length]
            case "insert":
                content[place:place] = draw(st.binary(max_size=40))
            case "remove":
                del content[place : place + length]
            case "sides":
                set_sides(content, draw(_sides), draw(_sides))
    if draw(st.booleans()):
        repair(content)
    return bytes(content)


def set_sides(content, width, height):
    """Another width and height in the header, as a bomb has them."""
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", width, height)
        repair(content)
    elif content.startswith(b"RIFF"):
        small = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
        if content[12:16] == b"VP8 ":
            content[26:30] = small
        elif content[12:16] == b"VP8L":
            bits = (width & 0x3FFF) | (height & 0x3FFF) << 14
            content[21:25] = struct.pack("<I", bits)
        else:
            wide = (width & 0xFFFFFF) | (height & 0xFFFFFF) << 24
            content[24:30] = wide.to_bytes(6, "little")
    else:
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (at := content.find(marker)) >= 0:
                content[at + 5 : at + 9] = struct.pack(
                    ">HH", height & 0xFFFF, width & 0xFFFF
                )


def repair(content):
    """Makes the checksums of PNG and tar hold, behind which most damage would stop."""
    for at in range(0, len(content) - 511, 512):
        if content[at + 257 : at + 262] == b"ustar":
            content[at + 148 : at + 156] = b" " * 8
            content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    at = 8
    while content.startswith(b"\x89PNG") and at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4


def crop(way, content):
    """The crop or the kind of fault, and what is drawn next."""
    rng = np.random.default_rng(0)
    try:
        result = way(content, _SIZE, rng)
    except augment.BadRecord as error:
        assert error.kind in _KINDS
        result = error.kind
    else:
        assert result.shape == (_SIZE, _SIZE, 3) and result.dtype == np.uint8
    return result, rng.integers(2**32)


@fuzz
@given(damaged())
def test_a_damaged_picture_is_cropped_or_refused_alike(content):
    (fast, then), (exact, also) = (
        crop(way, content) for way in (random_crop.fast, random_crop.pil)
    )
    assert then == also
    assert fast == exact if isinstance(exact, str) else not isinstance(fast, str)


@pytest.mark.parametrize("number", range(len(_ORIGINALS)))
def test_what_is_damaged_was_whole(number):
    fast, exact = (
        crop(way, _ORIGINALS[number])[0] for way in (random_crop.fast, random_crop.pil)
    )
    assert decibels(fast, exact) > 30 and exact.std() > 10


def test_damage_leaks_nothing():
    files = []

    @settings(fuzz, max_examples=150, derandomize=True)
    @given(damaged())
    def collect(content):
        with contextlib.suppress(augment.BadRecord):
            if math.prod(augment.upright_size(content)) > 2**20:
                return  # it would take long, again and again
        files.append(content)

    def use():
        for content in files:
            for way in (random_crop.fast, random_crop.pil):
                crop(way, content)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), os.listdir("/proc/self/fd")

    collect()
    before, descriptors = [use() for _ in range(3)][-1]
    rounds = max(10, _CASES // 300)
    after, then = [use() for _ in range(rounds)][-1]
    # An 8 kB picture or a file of 2 kB that stayed at each turn would be more.
    assert after - before < 2**20 and len(then) == len(descriptors)


_texts = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    damaged(st.just("größe 猫 &amp; <start_of_text>\r\n\n a \u202e dog".encode())),
)


@fuzz
@given(_texts)
def test_a_damaged_caption_is_tokenised_or_refused(content):
    try:
        captions = augment.decode_captions(content)
    except augment.BadRecord as error:
        assert error.kind in {"bad caption", "empty caption"}
    else:
        tokens = _TOKENIZER(captions)
        assert tokens.shape == (len(captions), 16) and tokens.dtype == np.int32
        assert (tokens >= 0).all() and (tokens < 49408).all()


@pytest.fixture
def no_hang():
    """Ends a test whose one case does not end."""

    def end(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    yield lambda: signal.alarm(60)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write_tars(folder):
    pictures = [_ORIGINALS[0], _ORIGINALS[6], _ORIGINALS[14]]
    members = []
    for number, picture in enumerate(pictures):
        name = f"{number}" if number else "a-name-that-needs-a-header-of-its-own" * 4
        members += [(f"{name}.jpg", picture), (f"{name}.txt", b"a caption")]
    kind = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    return [write_tar(folder / f"{k}.tar", members, kind[k]) for k in kind]


def write_array_record(folder):
    path = folder / "x.array_record"
    array_records.write(path, [(f"{n}", _ORIGINALS[n], "a caption") for n in range(3)])
    return [path]


def write_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"jpg": _ORIGINALS[:3], "caption": ["a", "b", "c"]})
    path = folder / "x.parquet"
    parquet.write_table(table, path, row_group_size=2)
    return [path]


def write_table(folder):
    (folder / "0.jpg").write_bytes(_ORIGINALS[0])
    path = folder / "x.csv"
    path.write_text('filepath,title\n0.jpg,"a, ""b"""\n1.jpg,größe\n')
    return [path]


@pytest.mark.parametrize(
    "write", [write_tars, write_array_record, write_parquet, write_table]
)
def test_a_damaged_container_is_read_or_refused(tmp_path, monkeypatch, no_hang, write):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = {path: path.read_bytes() for path in write(tmp_path)}

    @fuzz
    @given(st.sampled_from(list(paths)), st.data())
    def check(path, data):
        content = data.draw(damaged(st.just(paths[path])))
        path.write_bytes(content)
        no_hang()
        try:
            source = sources.build(str(path))
        except UserError as error:
            assert str(path) in str(error)
            return
        load = pipeline.LoadPair(source, _TOKENIZER, _SIZE)
        for record in range(len(source)):
            with contextlib.suppress(augment.BadRecord):
                load.load(record, np.random.default_rng(0))
            source.name(record)

    check()
