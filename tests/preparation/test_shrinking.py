"""Pictures made smaller."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cloob_jax.data import augment
from cloob_jax.preparation.shrinking import shrink


def picture(width, height):
    """Noise without the finest details, as in photographs."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2))


def encode(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(encoded):
    return Image.open(io.BytesIO(encoded))


def noise_ratio(one, other):
    """Peak signal to noise, in dB."""
    difference = np.asarray(one, float) - np.asarray(other, float)
    return 10 * np.log10(255**2 / np.mean(difference**2))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 200), (96, 64)), ((200, 301), (64, 96)), ((4000, 65), (3938, 64))],
)
def test_the_shorter_side_is_as_asked(size, expected):
    shrunk = opened(shrink(encode(picture(*size)), 64, 95))
    assert shrunk.format == "JPEG" and shrunk.size == expected


# PIL's other filters are 40 (nearest) to 48 dB (Lanczos) from its bicubic here. A JPEG
# is decoded at a quarter.
@pytest.mark.parametrize(("kind", "least"), [("PNG", 49.5), ("JPEG", 43)])
def test_it_is_near_pil_of_the_whole_picture(kind, least):
    encoded = encode(picture(500, 420), kind)
    whole = opened(encoded).resize((119, 100), Image.Resampling.BICUBIC)
    shrunk = opened(shrink(encoded, 100, 100))
    assert noise_ratio(shrunk, whole) > least
    # Each component is as large as the picture: 4:4:4.
    assert [part[1:3] for part in shrunk.layer] == [(1, 1)] * 3


@pytest.mark.parametrize(
    "encoded",
    [
        encode(picture(64, 200)),
        encode(picture(90, 64), "PNG"),
        encode(picture(40, 40), "WEBP"),
    ],
)
def test_what_is_small_enough_stays_as_it_is(encoded):
    assert shrink(encoded, 64, 50) is encoded


def test_it_is_upright_and_bare():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = picture(300, 200)
    encoded = encode(image, exif=exif, comment=b"secret", quality=95)
    shrunk = opened(shrink(encoded, 64, 95))
    assert shrunk.size == (64, 96)
    expected = image.rotate(-90, expand=True).resize((64, 96), Image.Resampling.BICUBIC)
    assert noise_ratio(shrunk, expected) > 35
    assert not shrunk.getexif() and "comment" not in shrunk.info


@pytest.mark.parametrize("size", [1000, 10])
def test_a_truncated_picture_is_bad_whether_it_shrinks_or_not(size):
    with pytest.raises(augment.BadRecord, match="undecodable"):
        shrink(encode(picture(100, 100))[:-900], size, 95)
