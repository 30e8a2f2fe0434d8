"""From a scene of the shapes data set to the bytes of a JPEG."""

import colorsys
import io
import math

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from cloob_jax.data.shapes.scenes import Figure, Scene

_Rgb = tuple[int, int, int]

# Figures are drawn this much larger and averaged down, which smooths their edges.
_OVERSAMPLING = 2

# Degrees on the colour circle, and a factor of the value: purple is dark, pink is pale.
_HUES = {
    "red": (0, 0.92),
    "orange": (27, 1.0),
    "yellow": (54, 1.0),
    "green": (125, 0.72),
    "cyan": (183, 0.95),
    "blue": (226, 0.92),
    "purple": (277, 0.65),
    "pink": (326, 1.0),
}
_SATURATIONS = {"pink": 0.58}
_BACKGROUND_RGB = {
    "white": (246, 246, 246),
    "grey": (205, 205, 208),
    "beige": (234, 222, 198),
}


def _regular(num_corners: int, radius: float = 1.0) -> Float[np.ndarray, "corners 2"]:
    """Corners of a regular polygon, the first at the top; y grows downwards."""
    turns = 2 * np.pi * np.arange(num_corners) / num_corners
    return radius * np.stack([np.sin(turns), -np.cos(turns)], axis=1)


def _star() -> Float[np.ndarray, "corners 2"]:
    corners = _regular(10)
    corners[1::2] *= 0.4
    return corners


def _heart() -> Float[np.ndarray, "corners 2"]:
    turns = 2 * np.pi * np.arange(48) / 48
    x = 16 * np.sin(turns) ** 3
    y = -sum(
        weight * np.cos(k * turns) for k, weight in enumerate((13, -5, -2, -1), start=1)
    )
    return np.stack([x, y - 2.5], axis=1) / 16.5


def _cross() -> Float[np.ndarray, "corners 2"]:
    long, short = 0.95, 0.3
    quarter = [(short, -long), (short, -short), (long, -short)]
    return np.array(
        quarter
        + [(-y, x) for x, y in quarter]
        + [(-x, -y) for x, y in quarter]
        + [(y, -x) for x, y in quarter]
    )


_CIRCLE = _regular(48)
# Each shape is a stack of outlines in the unit circle, filled (True) or cut (False).
_OUTLINES = {
    "circle": [(_CIRCLE, True)],
    "square": [(_regular(4) @ np.array([[0.71, 0.71], [-0.71, 0.71]]), True)],
    "triangle": [(_regular(3), True)],
    "star": [(_star(), True)],
    "heart": [(_heart(), True)],
    "cross": [(_cross(), True)],
    "ring": [(_CIRCLE, True), (0.52 * _CIRCLE, False)],
    "crescent": [(_CIRCLE, True), (0.82 * _CIRCLE + [0.5, -0.1], False)],
}


def draw_jpeg(scene: Scene, image_size: int) -> bytes:
    """The scene as the bytes of an RGB JPEG of `image_size` x `image_size` pixels."""
    buffer = io.BytesIO()
    draw_scene(scene, image_size).save(buffer, "JPEG", quality=scene.quality)
    return buffer.getvalue()


def draw_scene(scene: Scene, image_size: int) -> Image.Image:
    """The scene as an RGB image of `image_size` x `image_size` pixels."""
    side = image_size * _OVERSAMPLING
    canvas = Image.new("RGB", (side, side), _BACKGROUND_RGB[scene.background])
    for figure in scene.figures:
        _draw_figure(canvas, figure)
    return canvas.reduce(_OVERSAMPLING)


def _draw_figure(canvas: Image.Image, figure: Figure) -> None:
    """Paint the figure onto the canvas."""
    radius = figure.diameter / 2 * canvas.width
    side = 2 * math.ceil(radius) + 2
    mask = Image.new("L", (side, side))
    # The texture's second tone shows where `pattern` is white.
    pattern = Image.fromarray(_texture(figure, side, radius))
    for outline, is_filled in _OUTLINES[figure.shape]:
        x, y = _rotate(outline[:, 0], outline[:, 1], -figure.angle)
        points = (np.stack([x, y], axis=1) * radius + side / 2).ravel().tolist()
        ImageDraw.Draw(mask).polygon(points, fill=255 if is_filled else 0)
        if figure.texture == "bordered":
            width = round(0.28 * radius)
            ImageDraw.Draw(pattern).line(points + points[:4], 255, width, "curve")
    first, second = _tones(figure)
    ink = Image.new("RGB", (side, side), first)
    ink.paste(second, mask=pattern)
    left, top = (round(c * canvas.width - side / 2) for c in (figure.x, figure.y))
    canvas.paste(ink, (left, top), mask)


def _texture(figure: Figure, side: int, radius: float) -> np.ndarray:
    """The share of the second tone, 0 to 255, but for a border, which is a line."""
    ramp = (np.arange(side, dtype=np.float32) - side / 2) / radius
    x, y = _rotate(ramp[None, :], ramp[:, None], figure.texture_angle)
    # Never so fine that the picture could not show it.
    period = max(0.5, 5.5 * _OVERSAMPLING / radius)
    if figure.texture == "shaded":
        return (255 * np.clip(0.5 + 0.6 * x, 0, 1)).astype(np.uint8)
    return 255 * _pattern(figure.texture, x / period, y / period).astype(np.uint8)


def _pattern(texture: str, x: np.ndarray, y: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Where the second tone lies, in coordinates of one period."""
    if texture == "striped":
        return x % 1 < 0.5
    if texture == "dotted":
        return (x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.3**2
    if texture == "checkered":
        return (x % 1 < 0.5) != (y % 1 < 0.5)
    return np.zeros(x.shape, bool)


def _tones(figure: Figure) -> tuple[_Rgb, _Rgb]:
    """The figure's colour, and its texture's second tone."""
    hue, value = _HUES[figure.colour]
    first = np.array(
        colorsys.hsv_to_rgb(
            (hue + figure.hue_shift) / 360 % 1,
            _SATURATIONS.get(figure.colour, 1.0) * figure.saturation,
            value * figure.value,
        )
    )
    # A shade of the same hue: a paler one would make red pink.
    second = 0.5 * first
    return _as_rgb(first), _as_rgb(second)


def _as_rgb(shares: np.ndarray) -> _Rgb:
    red, green, blue = (255 * shares).astype(int).tolist()
    return red, green, blue


def _rotate(
    x: np.ndarray, y: np.ndarray, degrees: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in axes that are turned by the angle."""
    cosine, sine = (float(f(np.radians(degrees))) for f in (np.cos, np.sin))
    return cosine * x + sine * y, cosine * y - sine * x
