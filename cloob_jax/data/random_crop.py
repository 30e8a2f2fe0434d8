"""The training crop, from encoded bytes to pixels: exactly as PIL, or fast.

Resizing costs more than decoding, so `fast` resizes with the SIMD instructions of the
processor (cykooz_resizer: bicubic and antialiased as PIL's, 54 dB from it), and decodes
with libjpeg-turbo alone (simplejpeg), at half the size or less where the crop is still
smaller. The geometry is the same in both, and so is what counts as a bad record.
"""

import math
import threading
from typing import NamedTuple

import cykooz_resizer as resizer
import numpy as np
import simplejpeg
from jaxtyping import Int, UInt8
from PIL import Image

from cloob_jax.data import augment

_SCALE = (0.9, 1.0)  # of the area, as CLIP and CLOOB train
_RATIO = (3 / 4, 4 / 3)
# PIL's bicubic is Catmull-Rom's: a = -0.5.
_BICUBIC = resizer.ResizeAlg.convolution(resizer.FilterType.catmull_rom)
_RGB = resizer.PixelType.U8x3
_of_thread = threading.local()


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


def draw(width: int, height: int, rng: np.random.Generator) -> Box:
    """CLIP's training crop: 90 to 100 % of the area, ratio 3/4 to 4/3.

    The sampling is torchvision's RandomResizedCrop: ten tries, then the largest centred
    crop of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*_SCALE)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        tried_width = round(math.sqrt(area * ratio))
        tried_height = round(math.sqrt(area / ratio))
        if 0 < tried_width <= width and 0 < tried_height <= height:
            left = int(rng.integers(0, width - tried_width + 1))
            top = int(rng.integers(0, height - tried_height + 1))
            return Box(left, top, tried_width, tried_height)
    crop_width, crop_height = _largest_crop(width, height)
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return Box(left, top, crop_width, crop_height)


def _largest_crop(width: int, height: int) -> tuple[int, int]:
    if width < height * _RATIO[0]:
        return width, max(1, round(width / _RATIO[0]))
    if width > height * _RATIO[1]:
        return max(1, round(height * _RATIO[1])), height
    return width, height


def pil(
    encoded: bytes, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """Decodes, crops and resizes (bicubic) as torchvision does with PIL.

    Raises:
      augment.BadRecord: see `augment.decode`.
    """
    # Drawn before the decoding, so that a bad record draws as much as with `fast`.
    left, top, width, height = draw(*augment.upright_size(encoded), rng)
    image = augment.decode(encoded, upright=True)
    crop = image.crop((left, top, left + width, top + height))
    return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC))


def fast(
    encoded: bytes, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """The same crop, two to three times as fast.

    Raises:
      augment.BadRecord: see `augment.decode`.
    """
    return _resize(*_decoded(encoded, size, rng), size)


def canvas_size(size: int) -> int:
    """The side of the canvases of `unresized`: 256 pixels for crops of 224."""
    return round(size * 8 / 7)


def unresized(
    encoded: bytes, size: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "y x c"], Int[np.ndarray, "2"]]:
    """The same crop, which the device has yet to resize, if it fits into a canvas.

    Returns:
      A canvas in whose upper left corner it lies, and its height and width. One that
      does not fit is resized, as by `fast`.

    Raises:
      augment.BadRecord: see `augment.decode`.
    """
    pixels, box, full_width = _decoded(encoded, size, rng)
    side = canvas_size(size)
    if pixels.shape[1] == full_width and max(box.width, box.height) <= side:
        right, bottom = box.left + box.width, box.top + box.height
        part = pixels[box.top : bottom, box.left : right]
    else:
        part = _resize(pixels, box, full_width, size)
    height, width, channels = part.shape
    canvas = np.zeros((side, side, channels), np.uint8)
    canvas[:height, :width] = part
    return canvas, np.array([height, width], np.int32)


def _decoded(
    encoded: bytes, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box, int]:
    """Pixels that hold a crop, the crop in the whole picture, and its whole width."""
    # Few files are turned, and few are no JPEG: PIL reads these, and what is damaged.
    header = None if augment.is_turned(encoded) else _jpeg_size(encoded)
    width, height = header or augment.upright_size(encoded)
    box = draw(width, height, rng)
    # The smallest picture whose crop need not be enlarged.
    least = math.ceil(height * size / box.height), math.ceil(width * size / box.width)
    pixels = header and _decode_jpeg(encoded, width * height, *least)
    if pixels is None:
        pixels = np.asarray(augment.decode(encoded, upright=True))
    return pixels, box, width


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError:
        return None
    augment.check_size(width, height)
    return width, height


def _decode_jpeg(
    encoded: bytes, num_pixels: int, least_height: int, least_width: int
) -> np.ndarray | None:
    """The picture, in a buffer that the thread's next one overwrites."""
    buffer = getattr(_of_thread, "buffer", None)
    if buffer is None or len(buffer) < 3 * num_pixels:
        buffer = _of_thread.buffer = np.empty(3 * num_pixels, np.uint8)
    try:
        return simplejpeg.decode_jpeg(
            encoded,
            min_height=least_height,
            min_width=least_width,
            min_factor=2,  # scaling by less costs more than it saves
            buffer=buffer,
        )
    except ValueError:
        return None


def _resize(pixels: np.ndarray, box: Box, full_width: int, size: int) -> np.ndarray:
    """The box, in a picture of that width, of which `pixels` may be some eighths."""
    height, width, _ = pixels.shape
    # Sides are rounded up, so that their ratio is not the scale.
    scale = (8 * width // full_width) / 8
    left, top = scale * box.left, scale * box.top
    right, bottom = left + scale * box.width, top + scale * box.height
    # What lies outside has no part in it, as with PIL; of a pixel in eighths, some has.
    first_row, first_column = int(top), int(left)
    part = pixels[first_row : math.ceil(bottom), first_column : math.ceil(right)]
    height, width, _ = part.shape
    left, top = left - first_column, top - first_row
    crop = resizer.CropBox(
        left,
        top,
        min(scale * box.width, width - left),
        min(scale * box.height, height - top),
    )
    source = resizer.ImageData(width, height, _RGB, part.tobytes())
    resized = resizer.ImageData(size, size, _RGB)
    if not hasattr(_of_thread, "resizer"):  # which keeps its buffers, and has no lock
        _of_thread.resizer = resizer.Resizer()
    options = resizer.ResizeOptions(resize_alg=_BICUBIC, crop_box=crop)
    _of_thread.resizer.resize(source, resized, options)
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(size, size, 3)
