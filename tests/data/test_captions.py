"""Captions of the shapes data set say only what is true, in many ways.

They are checked by a reader that is written here from the words' meanings and knows
nothing of how the captions are made.
"""

import json
import re
import tarfile

import numpy as np

from cloob_jax.data import shapes

SHAPES = {
    "circle": "circle disc",
    "square": "square block",
    "triangle": "triangle triangular",
    "star": "star",
    "heart": "heart",
    "cross": "cross plus",
    "ring": "ring hoop",
    "crescent": "crescent moon",
}
COLOURS = {
    "red": "red scarlet",
    "orange": "orange tangerine",
    "yellow": "yellow golden",
    "green": "green emerald",
    "cyan": "cyan turquoise aqua",
    "blue": "blue",
    "purple": "purple violet",
    "pink": "pink rosy",
}
TEXTURES = {
    "plain": "plain solid",
    "striped": "striped stripy",
    "dotted": "dotted spotted polka dot",
    "checkered": "checkered chequered checked",
    "bordered": "bordered outlined",
    "shaded": "shaded faded",
}
OF_FIGURES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "size": {"small": "small little tiny", "large": "large big huge"},
}
BACKGROUNDS = {"white": "white", "grey": "grey gray", "beige": "beige cream"}
MODIFIERS = {"royal", "bright", "round", "five", "pointed", "love"}
RELATIONS = {
    "left of": lambda a, b: a["x"] < b["x"],
    "right of": lambda a, b: a["x"] > b["x"],
    "above|over": lambda a, b: a["y"] < b["y"],
    "below|under|beneath": lambda a, b: a["y"] > b["y"],
}
PLACES = {
    "left corner|on the left": lambda figure: figure["x"] < 0.4,
    "right corner|on the right": lambda figure: figure["x"] > 0.6,
    "the top": lambda figure: figure["y"] < 0.4,
    "the bottom": lambda figure: figure["y"] > 0.6,
}
NUMBERS = {"two": 2, "2": 2, "a pair of": 2, "three": 3, "3": 3}


READING = {
    word + ending: (attribute, name)
    for attribute, names in (OF_FIGURES | {"background": BACKGROUNDS}).items()
    for name, words in names.items()
    for word in words.split()
    for ending in ("", "s", "es")
}


def read_claims(text: str) -> list[dict[str, str]]:
    """What is said of each figure: words of attributes that stand together."""
    claims: list[dict[str, str]] = [{}]
    for word in re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text):
        attribute, name = READING.get(word, ("", ""))
        if attribute in OF_FIGURES:
            claims[-1][attribute] = name
        elif word not in MODIFIERS:
            claims.append({})
    return [claim for claim in claims if claim]


def fits(claims: list[dict[str, str]], scene: dict) -> list[dict]:
    """The figures of which the first claim, if any, holds."""
    claim = claims[0] if claims else {}
    return [figure for figure in scene["figures"] if claim.items() <= figure.items()]


def find_wrong_figures(text: str, scene: dict) -> list:
    return [claim for claim in read_claims(text) if not fits([claim], scene)]


def find_wrong_background(text: str, scene: dict) -> list:
    said = [READING.get(word, ("", "")) for word in re.findall("[a-z]+", text)]
    return [
        name
        for attribute, name in said
        if attribute == "background" and name != scene["background"]
    ]


def find_wrong_places(text: str, scene: dict) -> list:
    wrong = []
    for words, holds in PLACES.items():
        for match in re.finditer(rf"\b({words})\b", text):
            figures = fits(read_claims(text[: match.start()])[-1:], scene)
            if not any(holds(figure) for figure in figures):
                wrong.append(match[0])
    for words, holds in RELATIONS.items():
        for match in re.finditer(rf"\b({words})\b", text):
            before = fits(read_claims(text[: match.start()])[-1:], scene)
            after = fits(read_claims(text[match.end() :]), scene)
            if not any(holds(a, b) for a in before for b in after if a is not b):
                wrong.append(match[0])
    return wrong


def find_wrong_count(text: str, scene: dict) -> list:
    counted = re.search(rf"\b({'|'.join(NUMBERS)}) \w+s\b", text)
    if not counted:
        return []
    alike = all(len(fits([c], scene)) == NUMBERS[counted[1]] for c in read_claims(text))
    is_right = alike and NUMBERS[counted[1]] == len(scene["figures"])
    return [] if is_right else [counted[0]]


def find_lies(caption: str, scene: dict) -> list:
    """What the caption says that does not hold of the scene (its JSON)."""
    text = caption.lower().replace("five-pointed", "five pointed")
    return [
        lie
        for find in (
            find_wrong_figures,
            find_wrong_background,
            find_wrong_places,
            find_wrong_count,
        )
        for lie in find(text, scene)
    ]


def test_captions_are_true_varied_and_mostly_name_a_shape_or_a_colour(tmp_path):
    shapes.generate(tmp_path / "set", num_train=700, num_test=1, num_processes=1)
    with tarfile.open(tmp_path / "set" / "train" / "00000.tar") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}
    captions = []
    for name in filter(lambda name: name.endswith(".txt"), content):
        scene = json.loads(content[name.replace(".txt", ".json")])
        for caption in content[name].decode().split("\n"):
            captions.append(caption)
            assert find_lies(caption, scene) == [], caption
    claims = [read_claims(caption.lower()) for caption in captions]
    telling = [any({"shape", "colour"} & c.keys() for c in said) for said in claims]
    assert 0.7 < np.mean(telling) < 0.95
    assert len(set(captions)) > 0.75 * len(captions)
