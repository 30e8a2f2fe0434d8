"""Every kind of picture and caption that people have, through the pipeline."""

import numpy as np
import pytest
from PIL import Image
from test_augment import encode
from test_pipeline import take
from test_random_crop import photograph
from test_tars import write_tar

from cloob_jax import writers
from cloob_jax.data import pipeline, sources
from cloob_jax.data.bad_records import BadRecords
from cloob_jax.tokenizer import Tokenizer

_RED = (220, 30, 40)
_PLAIN = Image.new("RGB", (40, 30), _RED)


def good():
    """Files of one colour, in the ways in which files differ."""
    clear = _PLAIN.convert("RGBA")
    clear.putalpha(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    moving = {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "blue")]}
    return {
        "baseline": encode(_PLAIN, "JPEG", quality=95),
        "progressive": encode(_PLAIN, "JPEG", quality=95, progressive=True),
        "cmyk": encode(_PLAIN.convert("CMYK"), "JPEG", quality=95),
        "turned": encode(_PLAIN, "JPEG", quality=95, exif=turned),
        "palette": encode(_PLAIN.quantize(4), transparency=0),
        "alpha": encode(clear),
        "moving png": encode(_PLAIN, "PNG", **moving),
        "webp": encode(_PLAIN, "WEBP", quality=95),
        "webp with alpha": encode(clear, "WEBP", lossless=True, exact=True),
        "moving webp": encode(_PLAIN, "WEBP", lossless=True, **moving),
    }


def bad():
    """Kind of fault and content, image and caption, by key."""
    picture = encode(_PLAIN, "JPEG")
    noise = encode(photograph(200, 150), "JPEG", quality=95)
    flipped = bytearray(encode(photograph(200, 150)))
    flipped[len(flipped) // 2] ^= 1  # of which the checksum of a PNG tells
    return {
        "truncated": ("undecodable image", noise[: len(noise) // 2], b"text"),
        "flipped": ("undecodable image", bytes(flipped), b"text"),
        "large": ("too many pixels", encode(Image.new("1", (12000, 9000))), b"text"),
        "zero": ("not an image", b"", b"text"),
        "html": ("not an image", b"<html>404 Not Found</html>", b"text"),
        "gif": ("not an image", encode(_PLAIN, "GIF"), b"text"),
        "latin": ("bad caption", picture, "größe".encode("latin-1")),
        "blank": ("empty caption", picture, b" \n\t\n"),
    }


@pytest.mark.parametrize("resize", ["fast", "pil"])
def test_each_kind_is_read_rightly_or_counted_by_its_kind(tmp_path, resize):
    members = []
    for key, content in good().items():
        members += [(f"{key}.png", content), (f"{key}.txt", b"good")]
    for key, (_, content, caption) in bad().items():
        members += [(f"{key}.jpg", content), (f"{key}.txt", caption)]
    source = sources.build(str(write_tar(tmp_path / "0.tar", members)))
    load = pipeline.LoadPair(source, Tokenizer(16), 16, resize)
    count = len(good()) + len(bad())
    batches = take(load, 2, batch_size=count, num_threads=3)

    records = BadRecords(tmp_path, load, max_fraction=1.0)
    for number, batch in enumerate(batches, start=1):
        # All that comes, the substitutes too, is of that colour and of good records.
        assert np.abs(batch["image"].astype(int) - _RED).max() < 12
        assert (batch["record"] < len(good())).all()
        records.check(batch["bad"], number * count)
    # An epoch meets each of them.
    expected = {key: kind for key, (kind, _, _) in bad().items()}
    rows = writers.read_json_lines(tmp_path / "bad_records.jsonl")
    assert {row["key"]: row["kind"] for row in rows} == expected
    assert len(rows) == len(records) == len(bad())
    assert {row["shard"] for row in rows} == {"0.tar"}
    assert sum(records.kinds.values()) == len(bad())
    assert records.kinds["not an image"] == 3
    again = take(load, 2, batch_size=count, num_workers=0, num_threads=1)
    for one, other in zip(batches, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
