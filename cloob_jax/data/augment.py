"""From encoded bytes to pixels and captions: decoding, and the evaluation's resize.

The pixels are uint8 RGB; the conversion to floats and the normalisation happen on the
device.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

_FORMATS = ("JPEG", "PNG", "WEBP")
_PNG = b"\x89PNG\r\n\x1a\n"  # how one begins
# A small file can unpack to gigabytes. PIL only warns past this many pixels, which
# `decode` makes an error.
_MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What a camera or an editor wrote beside the picture need not be whole.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
# What undoes an orientation (Exif 2.3, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadRecord(Exception):
    """A record that cannot be used.

    Attributes:
      kind: why, in words that many records share, by which they are counted.
    """

    def __init__(self, kind: str, detail: str = ""):
        """The message is both."""
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def decode(
    encoded: bytes, upright: bool = False, least: int | None = None
) -> Image.Image:
    """Decodes JPEG, PNG or WebP to RGB; of an animation, the first picture.

    Palettes are resolved before any resizing (the published code resizes the indices).

    Args:
      encoded: the content of a file.
      upright: whether to turn what a camera marked as turned. Published evaluations
        do not.
      least: of a JPEG whose sides are twice that and more, a half, a quarter or an
        eighth is decoded, which is quicker; but no side gets smaller than that.

    Raises:
      BadRecord: not an image, truncated or damaged, as far as its format tells, or
        more than 89 million pixels.
    """
    if encoded.startswith(_PNG):
        with _opened(encoded) as image:
            image.verify()  # the checksums, at which decoding does not look
    with _opened(encoded) as image:
        if least is not None:
            image.draft(None, (least, least))
        orientation = _orientation(image) if upright else 1
        rgb = _eight_bits(image).convert("RGB")
        return rgb.transpose(_UPRIGHT[orientation]) if orientation > 1 else rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    # PIL would cut 16 bits off at 255.
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def upright_size(encoded: bytes) -> tuple[int, int]:
    """Width and height once it is turned, of which the header tells.

    Raises:
      BadRecord: not an image, or more than 89 million pixels.
    """
    with _opened(encoded) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def traits(encoded: bytes) -> set[str]:
    """The format of an image, and what is unusual in it; for reports.

    Raises:
      BadRecord: not an image, or more than 89 million pixels.
    """
    with _opened(encoded) as image:
        found = {
            str(image.format): True,
            "grey": image.mode in ("1", "L", "LA"),
            "CMYK": image.mode == "CMYK",
            "palette": image.mode == "P",
            "alpha": "A" in image.mode or "transparency" in image.info,
            "16 bits": image.mode.startswith("I"),
            "animated": getattr(image, "is_animated", False),
            "turned by Exif": _orientation(image) > 1,
        }
        return {name for name, is_so in found.items() if is_so}


def is_turned(encoded: bytes) -> bool:
    """Whether a camera marked a JPEG as turned; quick where it did not."""
    place = 2
    while encoded[place : place + 1] == b"\xff":  # a segment before the pixels
        kind, size = encoded[place + 1 : place + 2], encoded[place + 2 : place + 4]
        if kind == b"\xe1" and encoded[place + 4 : place + 10] == b"Exif\0\0":
            with _opened(encoded) as image:
                return _orientation(image) > 1
        if kind == b"\xda":
            break
        place += 2 + int.from_bytes(size)
    return False


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged, which is no harm to the picture
        return 1
    return found if found in _UPRIGHT else 1


def check_size(width: int, height: int) -> None:
    """Before anything is decoded.

    Raises:
      BadRecord: more than 89 million pixels.
    """
    if width * height > _MAX_PIXELS:
        raise BadRecord("too many pixels", f"{width} x {height}")


@contextlib.contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    try:
        # Other formats are never tried: some of their decoders start programs.
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            check_size(*image.size)
            yield image
    except (BadRecord, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord("too many pixels", str(error)) from None
    except Exception as error:  # PIL's decoders raise whatever the file makes them
        detail = str(error) or type(error).__name__
        if "cannot identify image file" in detail:
            raise BadRecord("not an image", f"{len(encoded)} bytes") from None
        raise BadRecord("undecodable image", detail) from None


def decode_captions(encoded: bytes) -> list[str]:
    """The captions of a record: the lines of its text member that are not empty.

    Raises:
      BadRecord: not UTF-8, or nothing but white space.
    """
    try:
        # Not splitlines, which also divides at characters that stand within a caption.
        lines = encoded.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadRecord("bad caption", f"not UTF-8 (byte {error.start})") from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise BadRecord("empty caption")
    return captions


def encode_captions(captions: Iterable[str | None]) -> bytes:
    """What `decode_captions` reads: a caption a line, without its own line breaks."""
    lines = [" ".join(caption.split()) for caption in captions if caption]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def evaluation_resize(image: Image.Image, size: int) -> UInt8[np.ndarray, "h w c"]:
    """CLIP's evaluation: shorter side to `size`, bicubic, then the centre square."""
    width, height = image.size
    shorter = min(width, height)
    # Rounded down, and the crop's corner to the nearest, as torchvision does.
    resized = (int(size * width / shorter), int(size * height / shorter))
    image = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))
