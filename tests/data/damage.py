"""Files of every kind that people have, and damage to them, for hypothesis."""

import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from test_augment import encode
from test_random_crop import photograph


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


ORIGINALS = originals()
_files = st.sampled_from(ORIGINALS)
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
