"""Captions for a scene of the shapes data set: true, but like the web's.

Each names only some of what is in the picture, in one of many wordings, now and then
among words that say nothing.
"""

from collections.abc import Callable, Sequence
from random import Random

from cloob_jax.data.shapes.scenes import Figure, Scene

# The first word of each row is the class name, and the most frequent.
SHAPE_WORDS = {
    "circle": ("circle", "disc", "round disc"),
    "square": ("square", "block"),
    "triangle": ("triangle", "triangular sign"),
    "star": ("star", "five-pointed star"),
    "heart": ("heart", "love heart"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "crescent": ("crescent", "crescent moon", "moon"),
}
COLOUR_WORDS = {
    "red": ("red", "scarlet", "bright red"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise", "aqua"),
    "blue": ("blue", "royal blue"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
}
TEXTURE_WORDS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered", "chequered", "checked"),
    "bordered": ("bordered", "outlined"),
    "shaded": ("shaded", "faded"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
BACKGROUND_WORDS = {
    "white": ("white",),
    "grey": ("grey", "gray"),
    "beige": ("beige", "cream"),
}
NUMBER_WORDS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
RELATION_WORDS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "near": ("next to", "near", "beside"),
}
_WORDS = (
    SHAPE_WORDS
    | COLOUR_WORDS
    | TEXTURE_WORDS
    | SIZE_WORDS
    | BACKGROUND_WORDS
    | RELATION_WORDS
)

# What is named of a figure, in the order in which it is said, and how often.
_NAMED = {
    ("colour", "shape"): 30,
    ("shape",): 28,
    ("colour",): 4,
    ("texture", "shape"): 11,
    ("texture", "colour", "shape"): 11,
    ("size", "shape"): 4,
    ("size", "colour", "shape"): 4,
    ("texture", "colour"): 4,
    ("size", "colour"): 2,
    ("texture",): 3,
    ("size", "texture", "colour", "shape"): 2,
}
_NOUNS = ("shape", "object", "thing", "figure")
_FRAMES = (
    "a photo of {}",
    "photo of {}",
    "a picture of {}",
    "picture of {}",
    "an image of {}",
    "a drawing of {}",
    "illustration of {}",
    "{} clipart",
    "{} stock image",
    "{} for sale",
    "{} | free download",
    "{} wallpaper hd",
    "{} icon",
    "photo {number}: {}",
    "{} ({number})",
    "look at {}",
    "my sketch of {}",
    "here you can see {}",
    "{} by anna",
    "there is {}",
)
_SILENT = (
    "img_{number}.jpg",
    "photo {number}",
    "untitled",
    "click to enlarge",
    "free shipping on all orders",
    "picture of the day",
    "product image {number}",
)


def write_captions(random: Random, scene: Scene) -> list[str]:
    """One to three different captions of the scene, each a line of its own."""
    [wanted] = random.choices((1, 2, 3), weights=(50, 30, 20))
    return list(dict.fromkeys(write_caption(random, scene) for _ in range(wanted)))


def write_caption(random: Random, scene: Scene) -> str:
    """One caption of the scene: some of the truth, in some wording, never empty."""
    kinds = _KINDS_OF_ONE if len(scene.figures) == 1 else _KINDS_OF_MANY
    [say] = random.choices(list(kinds), weights=list(kinds.values()))
    number = f"{random.randrange(10_000):04d}"
    text = say(random, scene)
    if say is not _silence and random.random() < 0.6:
        text = random.choice(_FRAMES).replace("{}", text)
    return _typeset(random, text.replace("{number}", number))


def find_relation(figure: Figure, other: Figure) -> str:
    """Where the figure lies from the other: left, right, above, below, or just near."""
    right, down = figure.x - other.x, figure.y - other.y
    if abs(right) > 1.5 * abs(down):
        return "right" if right > 0 else "left"
    if abs(down) > 1.5 * abs(right):
        return "below" if down > 0 else "above"
    return "near"


def _word(random: Random, name: str) -> str:
    words = _WORDS[name]
    return words[0] if random.random() < 0.7 else random.choice(words)


def _figure_phrase(random: Random, figure: Figure) -> str:
    """A figure by some of its attributes, with or without an article."""
    [named] = random.choices(list(_NAMED), weights=list(_NAMED.values()))
    words = [_word(random, getattr(figure, attribute)) for attribute in named]
    if "shape" not in named:
        words.append(random.choice(_NOUNS))
    phrase = " ".join(words)
    indefinite = "an" if phrase[0] in "aeiou" else "a"
    [article] = random.choices((indefinite, "the", ""), weights=(60, 12, 28))
    return f"{article} {phrase}".strip()


def _place_phrase(figure: Figure) -> str:
    """Where in the picture the figure lies, or nothing where that is not clear."""
    across = "left" if figure.x < 0.36 else "right" if figure.x > 0.64 else ""
    down = "top" if figure.y < 0.36 else "bottom" if figure.y > 0.64 else ""
    if across and down:
        return f"in the {down} {across} corner"
    if across:
        return f"on the {across}"
    if down:
        return f"at the {down}"
    is_central = abs(figure.x - 0.5) < 0.06 and abs(figure.y - 0.5) < 0.06
    return "in the middle" if is_central else ""


def _background_phrase(random: Random, background: str) -> str:
    colour = _word(random, background)
    return random.choice(
        (f"on {colour}", f"on a {colour} background", f"against {colour}")
    )


def _with_setting(random: Random, text: str, scene: Scene) -> str:
    """Every fifth time, the background too."""
    if random.random() > 0.2:
        return text
    return f"{text} {_background_phrase(random, scene.background)}"


def _one_figure(random: Random, scene: Scene) -> str:
    figure = random.choice(scene.figures)
    text = _figure_phrase(random, figure)
    place = _place_phrase(figure)
    if place and random.random() < 0.15:
        text = f"{text} {place}"
    return _with_setting(random, text, scene)


def _two_figures(random: Random, scene: Scene) -> str:
    figure, other = random.sample(scene.figures, 2)
    relation = _word(random, find_relation(figure, other))
    text = (
        f"{_figure_phrase(random, figure)} {relation} {_figure_phrase(random, other)}"
    )
    return _with_setting(random, text, scene)


def _all_figures(random: Random, scene: Scene) -> str:
    figures = random.sample(scene.figures, len(scene.figures))
    *phrases, last = (_figure_phrase(random, figure) for figure in figures)
    joint = random.choice((" and ", " with ", " & "))
    return _with_setting(random, ", ".join(phrases) + joint + last, scene)


def _count(random: Random, scene: Scene) -> str:
    number = random.choice(NUMBER_WORDS[len(scene.figures)])
    shapes = {figure.shape for figure in scene.figures}
    noun = _word(random, shapes.pop()) if len(shapes) == 1 else random.choice(_NOUNS)
    ending = "es" if noun.endswith("s") else "s"
    return _with_setting(random, f"{number} {noun}{ending}", scene)


def _setting(random: Random, scene: Scene) -> str:
    noun = random.choice(("something", "artwork", "design", "graphic"))
    return f"{noun} {_background_phrase(random, scene.background)}"


def _silence(random: Random, scene: Scene) -> str:
    return random.choice(_SILENT)


_Kinds = dict[Callable[[Random, Scene], str], int]
_KINDS_OF_ONE: _Kinds = {_one_figure: 88, _setting: 5, _silence: 7}
_KINDS_OF_MANY: _Kinds = {
    _one_figure: 22,
    _two_figures: 32,
    _all_figures: 28,
    _count: 7,
    _setting: 4,
    _silence: 7,
}


def _typeset(random: Random, text: str) -> str:
    """Capitals and punctuation as people set them: mostly none."""
    styles: Sequence[Callable[[str], str]] = (
        lambda t: t,
        lambda t: t[0].upper() + t[1:] + ".",
        lambda t: t[0].upper() + t[1:],
        str.title,
        lambda t: t + "!",
        str.upper,
    )
    [style] = random.choices(styles, weights=(60, 16, 10, 6, 4, 4))
    return style(text)
