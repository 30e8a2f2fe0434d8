"""From encoded bytes to pixels: decoding, the training crop, the evaluation resize.

All give uint8 RGB; the conversion to floats and the normalisation happen on the device.
"""

import io
import math
import warnings
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_FORMATS = ("JPEG", "PNG", "WEBP")
# A small file can unpack to gigabytes. PIL only warns past this many pixels, which
# `decode` makes an error.
_MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SCALE = (0.9, 1.0)  # of the area, as CLIP and CLOOB train
_RATIO = (3 / 4, 4 / 3)


class BadRecord(Exception):
    """A record that cannot be used; the message says why, in a few words."""


def decode(encoded: bytes) -> Image.Image:
    """Decodes JPEG, PNG or WebP to RGB.

    Palettes are resolved before any resizing (the published code resizes the indices).

    Raises:
      BadRecord: not an image, truncated, or more than 89 million pixels.
    """
    try:
        # Other formats are never tried: some of their decoders start programs.
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise BadRecord(f"too many pixels: {image.width} x {image.height}")
            return image.convert("RGB")
    except (BadRecord, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord(f"too many pixels: {error}") from None
    except Exception as error:  # PIL's decoders raise whatever the file makes them
        detail = str(error) or type(error).__name__
        if "cannot identify image file" in detail:
            detail = f"not an image ({len(encoded)} bytes)"
        raise BadRecord(f"undecodable image: {detail}") from None


def decode_captions(encoded: bytes) -> list[str]:
    """The captions of a record: the lines of its text member that are not empty.

    Raises:
      BadRecord: not UTF-8, or nothing but white space.
    """
    try:
        # Not splitlines, which also divides at characters that stand within a caption.
        lines = encoded.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadRecord(f"caption is not UTF-8 (byte {error.start})") from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise BadRecord("empty caption")
    return captions


def encode_captions(captions: Iterable[str | None]) -> bytes:
    """What `decode_captions` reads: a caption a line, without its own line breaks."""
    lines = [" ".join(caption.split()) for caption in captions if caption]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def random_resized_crop(
    image: Image.Image, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """CLIP's training crop: 90 to 100 % of the area, ratio 3/4 to 4/3, bicubic.

    The sampling is torchvision's RandomResizedCrop: ten tries, then the largest centred
    crop of an allowed ratio.
    """
    width, height = image.size
    crop_width, crop_height = _largest_crop(width, height)
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    for _ in range(10):
        area = width * height * rng.uniform(*_SCALE)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        tried_width = round(math.sqrt(area * ratio))
        tried_height = round(math.sqrt(area / ratio))
        if 0 < tried_width <= width and 0 < tried_height <= height:
            crop_width, crop_height = tried_width, tried_height
            left = int(rng.integers(0, width - crop_width + 1))
            top = int(rng.integers(0, height - crop_height + 1))
            break
    crop = image.crop((left, top, left + crop_width, top + crop_height))
    return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC))


def _largest_crop(width: int, height: int) -> tuple[int, int]:
    if width < height * _RATIO[0]:
        return width, max(1, round(width / _RATIO[0]))
    if width > height * _RATIO[1]:
        return max(1, round(height * _RATIO[1])), height
    return width, height


def evaluation_resize(image: Image.Image, size: int) -> UInt8[np.ndarray, "h w c"]:
    """CLIP's evaluation: shorter side to `size`, bicubic, then the centre square."""
    width, height = image.size
    shorter = min(width, height)
    # Rounded down, and the crop's corner to the nearest, as torchvision does.
    resized = (int(size * width / shorter), int(size * height / shorter))
    image = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))
