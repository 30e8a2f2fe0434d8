"""The training crop: torchvision's geometry, PIL's pixels, and the fast way to both."""

import io
import math
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_augment import colours, encode

from cloob_jax import resampling
from cloob_jax.data import augment, random_crop

WAYS = pytest.mark.parametrize("way", [random_crop.pil, random_crop.fast])


def photograph(width, height):
    """Noise whose spectrum falls as that of photographs does."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1e-3
    noise = np.fft.fft2(rng.normal(size=(3, height, width))) / frequency
    values = np.fft.ifft2(noise).real.transpose(1, 2, 0)
    values -= values.min()
    return Image.fromarray((255 * values / values.max()).astype(np.uint8))


def decibels(one, other):
    """Peak signal-to-noise ratio of two pictures."""
    difference = np.mean((one.astype(float) - other) ** 2)
    return math.inf if difference == 0 else 10 * math.log10(255**2 / difference)


@WAYS
def test_crops_have_the_area_and_ratio_of_the_recipe(way):
    # The ramps give each crop's place away: red is x, green is y.
    width, height = 400, 300
    image = encode(colours(width, height))
    for seed in range(200):
        crop = way(image, 32, np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
        # Half a resized pixel is left out on either side.
        scale = 32 / 31 / 255
        crop_width = (int(crop[16, -1, 0]) - int(crop[16, 0, 0])) * scale * width
        crop_height = (int(crop[-1, 16, 1]) - int(crop[0, 16, 1])) * scale * height
        assert 0.87 < crop_width * crop_height / (width * height) < 1.03
        assert 0.72 < crop_width / crop_height < 1.37


@WAYS
def test_an_image_without_an_allowed_crop_gives_its_centre(way):
    # Ratio 10: no crop of 90 % has a ratio under 4/3; the largest that does is central.
    crop = way(encode(colours(1000, 100)), 16, np.random.default_rng(0))
    centre, side = int(crop[8, 8, 0]) / 255, 133 / 1000
    assert math.isclose(centre, 0.5, abs_tol=0.02)
    assert int(crop[8, -1, 0]) - int(crop[8, 0, 0]) < 255 * side


@pytest.mark.parametrize(
    ("size", "kind", "least"),
    [
        ((256, 256), "JPEG", 50),
        ((500, 375), "JPEG", 50),
        ((375, 500), "WEBP", 50),
        ((1030, 771), "JPEG", 40),  # decoded at half its size
        ((2050, 1540), "JPEG", 40),  # at a quarter
        ((100, 80), "JPEG", 50),  # enlarged
        ((301, 203), "PNG", 50),
    ],
)
def test_the_fast_crop_is_pils_to_the_eye(size, kind, least):
    encoded = encode(photograph(*size), kind, quality=92)
    for seed in range(3):
        exact = random_crop.pil(encoded, 224, np.random.default_rng(seed))
        fast = random_crop.fast(encoded, 224, np.random.default_rng(seed))
        assert decibels(fast, exact) > least


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_decoded_as_pil_decodes_them(mode):
    encoded = encode(photograph(300, 200).convert(mode), "JPEG", quality=92)
    exact, fast = (
        way(encoded, 224, np.random.default_rng(0))
        for way in (random_crop.pil, random_crop.fast)
    )
    assert decibels(fast, exact) > 40


def test_a_file_that_only_pil_reads_is_read():
    # libjpeg warns of bytes that are lost within the data; PIL makes do without them.
    encoded = bytearray(encode(photograph(300, 200), "JPEG", quality=90))
    encoded[len(encoded) // 2] ^= 0xFF
    encoded[-2000:-1990] = b"\xff\x00" * 5
    exact = random_crop.pil(bytes(encoded), 64, np.random.default_rng(0))
    fast = random_crop.fast(bytes(encoded), 64, np.random.default_rng(0))
    assert decibels(fast, exact) > 40


@WAYS
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_a_camera_marked_as_turned_is_upright(way, kind, orientation):
    upright = colours(120, 90)
    # What has to be done to the stored picture (Exif 2.3, tag 274), undone.
    undo = [
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_270,
    ][orientation - 1]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encode(
        stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {})
    )
    found = way(turned, 48, np.random.default_rng(0))
    expected = way(encode(upright), 48, np.random.default_rng(0))
    assert decibels(found, expected) > 35


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of what is damaged
@WAYS
@pytest.mark.parametrize(
    "exif",
    [
        b"garbage",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abcd",  # a text
    ],
    ids=["garbage", "beyond the end", "text"],
)
def test_a_damaged_mark_does_no_harm(way, exif):
    plain = encode(photograph(64, 48), "JPEG")
    segment = b"\xff\xe1" + (len(exif) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif
    marked = plain[:2] + segment + plain[2:]
    np.testing.assert_array_equal(
        way(marked, 32, np.random.default_rng(0)),
        way(plain, 32, np.random.default_rng(0)),
    )


def test_threads_have_resizers_of_their_own():
    encoded = [encode(photograph(64 + 8 * n, 64), "JPEG") for n in range(8)]
    expected = [random_crop.fast(e, 48, np.random.default_rng(0)) for e in encoded]
    found = {}

    def work(number):
        for _ in range(20):
            found[number] = random_crop.fast(
                encoded[number], 48, np.random.default_rng(0)
            )

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        np.testing.assert_array_equal(found[number], expected[number])


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "not an image: 0 bytes"),
        (encode(colours(200, 200), "JPEG")[:900], "undecodable image"),
        (encode(Image.new("RGB", (12000, 9000)), "JPEG"), "too many pixels"),
        (encode(Image.new("1", (20000, 10000))), "too many pixels"),
    ],
    ids=["empty", "truncated", "large", "bomb"],
)
def test_both_ways_refuse_the_same(encoded, reason):
    then = []
    for way in (random_crop.pil, random_crop.fast):
        rng = np.random.default_rng(0)
        with pytest.raises(augment.BadRecord, match=reason):
            way(encoded, 32, rng)
        then.append(rng.integers(2**32))
    assert then[0] == then[1]  # the substitute is the same


@pytest.mark.parametrize(
    ("width", "height", "fits"), [(64, 64, True), (62, 50, True), (100, 75, False)]
)
def test_the_device_finishes_the_same_crop(width, height, fits):
    buffer = io.BytesIO()
    photograph(width, height).save(buffer, "JPEG", quality=95)
    encoded = buffer.getvalue()
    for seed in range(5):
        canvas, box = random_crop.unresized(encoded, 56, np.random.default_rng(seed))
        assert canvas.shape == (64, 64, 3) and (canvas[box[0] :] == 0).all()
        assert (box.tolist() == [56, 56]) != fits
        found = resampling.resize(*map(jnp.asarray, (canvas[None], box[None])), 56)[0]
        expected = random_crop.pil(encoded, 56, np.random.default_rng(seed))
        assert decibels(np.asarray(found), expected) > 52
