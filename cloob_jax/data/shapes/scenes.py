"""What a scene of the shapes data set holds, and how one is composed by lot.

A scene is plain data: everything that the drawing and the captions need is in it, so
that both are functions of the scene alone. Lengths are fractions of the image's side.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from random import Random

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "ring",
    "crescent",
)
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "dotted", "checkered", "bordered", "shaded")
# All pale: a background that differed more than the figures do would be what a model
# learns first, though few captions speak of it.
BACKGROUNDS = ("white", "grey", "beige")

# A permutation: each colour and each shape is still seen in seven combinations.
HELD_OUT = (
    ("red", "square"),
    ("orange", "heart"),
    ("yellow", "crescent"),
    ("green", "triangle"),
    ("cyan", "cross"),
    ("blue", "circle"),
    ("purple", "star"),
    ("pink", "ring"),
)
COMBINATIONS = tuple(itertools.product(COLOURS, SHAPES))
SEEN = tuple(pair for pair in COMBINATIONS if pair not in HELD_OUT)

# By the number of figures: the diameters of a small and of a large one. Every small
# figure is smaller than every large one, whatever its company.
_DIAMETERS = {
    1: {"small": (0.54, 0.62), "large": (0.76, 0.92)},
    2: {"small": (0.28, 0.36), "large": (0.42, 0.47)},
    3: {"small": (0.25, 0.32), "large": (0.42, 0.43)},
}
_MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class Figure:
    """One object: its names, and where and how it is drawn.

    `x` and `y` are the centre, from the left and from the top; `angle` and
    `texture_angle` are in degrees; `hue_shift`, `saturation` and `value` vary the
    colour about its name.
    """

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    diameter: float
    angle: float
    texture_angle: float
    hue_shift: float
    saturation: float
    value: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """One to three figures on a background, and the JPEG quality of the picture."""

    figures: tuple[Figure, ...]
    background: str
    quality: int


def sample_training_scene(random: Random) -> Scene:
    """A scene of one to three figures, of the combinations seen in training alone."""
    [num_figures] = random.choices((1, 2, 3), weights=(76, 15, 9))
    kinds = [
        (*random.choice(SEEN), random.choice(TEXTURES)) for _ in range(num_figures)
    ]
    return sample_scene(random, kinds)


def sample_scene(random: Random, kinds: Sequence[tuple[str, str, str]]) -> Scene:
    """A scene of these figures, each a (colour, shape, texture); the rest by lot."""
    sizes = random.choices(("small", "large"), k=len(kinds))
    if len(kinds) == 3:
        # More than one large figure would hardly fit beside two others.
        sizes[1:] = ["small", "small"]
    diameters = [_uniform(random, *_DIAMETERS[len(kinds)][size]) for size in sizes]
    figures = tuple(
        Figure(
            shape=shape,
            colour=colour,
            texture=texture,
            size=size,
            x=x,
            y=y,
            diameter=diameter,
            angle=_uniform(random, -8.0, 8.0),
            texture_angle=_uniform(random, 0.0, 180.0),
            hue_shift=_uniform(random, -5.0, 5.0),
            saturation=_uniform(random, 0.9, 1.0),
            value=_uniform(random, 0.9, 1.0),
        )
        for (colour, shape, texture), size, diameter, (x, y) in zip(
            kinds, sizes, diameters, _sample_places(random, diameters), strict=True
        )
    )
    return Scene(figures, random.choice(BACKGROUNDS), quality=random.randint(80, 95))


def _sample_places(
    random: Random, diameters: Sequence[float]
) -> list[tuple[float, float]]:
    """Centres of circles that lie within the picture and do not touch."""
    while True:
        places = [
            (_sample_centre(random, diameter), _sample_centre(random, diameter))
            for diameter in diameters
        ]
        circles = list(zip(places, diameters, strict=True))
        if all(
            (x - a) ** 2 + (y - b) ** 2 > ((d + e) / 2 + _MARGIN) ** 2
            for ((x, y), d), ((a, b), e) in itertools.combinations(circles, 2)
        ):
            return places


def _sample_centre(random: Random, diameter: float) -> float:
    edge = diameter / 2 + _MARGIN
    return _uniform(random, edge, 1 - edge)


def _uniform(random: Random, low: float, high: float) -> float:
    # Rounded, so that the scene's JSON is short and still says all.
    return round(random.uniform(low, high), 4)
