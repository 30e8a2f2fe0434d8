"""Scenes of the shapes data set: figures have the place, area and hue they claim."""

import colorsys
import dataclasses
import math
from random import Random

import numpy as np
import pytest

from cloob_jax.data.shapes.drawing import draw_scene
from cloob_jax.data.shapes.scenes import sample_scene

HUES = {
    "red": 0,
    "orange": 30,
    "yellow": 60,
    "green": 120,
    "cyan": 180,
    "blue": 240,
    "purple": 280,
    "pink": 330,
}


@pytest.mark.parametrize("shape", ["circle", "square", "triangle"])
def test_figures_cover_the_area_that_geometry_says(shape):
    share = {"circle": math.pi, "square": 2.0, "triangle": 3 * math.sqrt(3) / 4}[shape]
    scene = sample_scene(Random(shape), [("blue", shape, "plain")])
    pixels = np.asarray(draw_scene(dataclasses.replace(scene, background="white"), 256))
    covered = 1 - (pixels[:, :, 0].astype(float) / pixels[0, 0, 0]).clip(0, 1)
    [figure] = scene.figures
    expected = share * (figure.diameter / 2) ** 2
    # The blue has a little red in it, so full cover counts as less than one.
    assert covered.sum() / covered.max() / 256**2 == pytest.approx(expected, rel=0.04)
    centre = np.average(np.indices((256, 256)) + 0.5, axis=(1, 2), weights=covered)
    assert centre / 256 == pytest.approx([figure.y, figure.x], abs=0.01)


@pytest.mark.parametrize("colour", HUES)
def test_figures_have_the_hue_of_their_name(colour):
    for seed in range(10):
        scene = sample_scene(Random(seed), [(colour, "square", "plain")])
        [figure] = scene.figures
        x, y = round(64 * figure.x), round(64 * figure.y)
        rgb = draw_scene(scene, 64).getpixel((x, y))
        hue = 360 * colorsys.rgb_to_hsv(*rgb)[0]
        distance = {n: abs((hue - d + 180) % 360 - 180) for n, d in HUES.items()}
        assert min(distance, key=distance.get) == colour


def test_figures_lie_within_the_picture_and_apart():
    for seed in range(150):
        figures = sample_scene(Random(seed), 3 * [("red", "star", "plain")]).figures
        for i, figure in enumerate(figures):
            radius = figure.diameter / 2
            assert all(radius < c < 1 - radius for c in (figure.x, figure.y))
            for other in figures[:i]:
                distance = math.dist((figure.x, figure.y), (other.x, other.y))
                assert distance > radius + other.diameter / 2
