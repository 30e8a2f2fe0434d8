"""Decoding and resizing: every kind of picture, and torchvision's geometry."""

import io

import numpy as np
import pytest
from PIL import Image

from cloob_jax.data import augment

_RED = (220, 30, 40)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(width=40, height=30):
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)[None]
    ramp[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return Image.fromarray(ramp)


@pytest.mark.parametrize(
    "encoded",
    [
        encode(Image.new("RGB", (20, 10), _RED), "JPEG", quality=95),
        encode(Image.new("RGB", (20, 10), _RED), "WEBP", lossless=True),
        encode(Image.new("RGB", (20, 10), _RED).quantize(4)),
        encode(Image.new("RGBA", (20, 10), (*_RED, 255))),
        encode(Image.new("RGB", (20, 10), _RED).convert("CMYK"), "JPEG", quality=95),
    ],
    ids=["jpeg", "webp", "palette", "alpha", "cmyk"],
)
def test_every_kind_becomes_rgb(encoded):
    image = augment.decode(encoded)
    assert image.mode == "RGB" and image.size == (20, 10)
    assert np.abs(np.asarray(image).astype(int)[5, 10] - _RED).max() < 12


def test_sixteen_bits_keep_their_shades():
    ramp = np.linspace(0, 65535, 40).astype(np.uint16)
    image = augment.decode(encode(Image.fromarray(np.tile(ramp, (8, 1)))))
    np.testing.assert_array_equal(np.asarray(image)[4, :, 1], ramp >> 8)


def test_of_an_animation_the_first_picture_is_taken():
    frames = [Image.new("RGB", (20, 10), colour) for colour in (_RED, "blue")]
    for kind in ("WEBP", "PNG"):
        moving = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        image = np.asarray(augment.decode(moving)).astype(int)
        assert np.abs(image[5, 10] - _RED).max() < 12


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "not an image: 0 bytes"),
        (b"<html></html>", "not an image: 13 bytes"),
        (encode(colours(200, 200), "JPEG")[:900], "undecodable image"),
        (encode(Image.new("1", (20000, 10000))), "too many pixels"),
        (encode(Image.new("1", (12000, 9000))), "too many pixels"),
        (b"GIF89a" + bytes(99), "not an image"),
    ],
    ids=["empty", "html", "truncated", "bomb", "large", "gif"],
)
def test_what_cannot_be_used_says_why(encoded, reason):
    with pytest.raises(augment.BadRecord, match=reason):
        augment.decode(encoded)


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        (b"a cat", ["a cat"]),
        (b" a cat \r\n\r\na dog\n", ["a cat", "a dog"]),
        ("größe 猫".encode(), ["größe 猫"]),
        ("one\u2028caption\x0bstill".encode(), ["one\u2028caption\x0bstill"]),
    ],
)
def test_lines_are_captions(text, captions):
    assert augment.decode_captions(text) == captions


@pytest.mark.parametrize(
    ("text", "reason"), [(b" \n ", "empty caption"), (b"caf\xe9", "not UTF-8.*byte 3")]
)
def test_bad_captions_say_why(text, reason):
    with pytest.raises(augment.BadRecord, match=reason):
        augment.decode_captions(text)


@pytest.mark.parametrize("size", [(640, 480), (480, 641), (37, 500), (64, 64)])
def test_evaluation_takes_the_centre_square(size):
    result = augment.evaluation_resize(colours(*size), 64)
    assert result.shape == (64, 64, 3)
    # Red runs along x, green along y: the centre of the square is the image's.
    assert abs(int(result[32, 31:33, 0].mean()) - 127) <= 5
    assert abs(int(result[31:33, 32, 1].mean()) - 127) <= 5
    for channel, side in ((0, size[0]), (1, size[1])):
        run = np.diff(result[..., channel].astype(int), axis=1 - channel).sum() / 64
        assert abs(run - 255 * min(size) / side * 63 / 64) < 8
