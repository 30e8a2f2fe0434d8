"""Resizing on the device, against PIL and the definition in float64."""

import jax
import numpy as np
import pytest
from PIL import Image
from test_random_crop import decibels, photograph

from cloob_jax import resampling


def reference(pixels, size):
    """Catmull-Rom's kernel, stretched where the picture shrinks; one axis."""

    def weights(length):
        result = np.zeros((size, length))
        scale = length / size
        for row in range(size):
            for column in range(length):
                x = abs(column + 0.5 - (row + 0.5) * scale) / max(scale, 1)
                if x < 1:
                    result[row, column] = 1.5 * x**3 - 2.5 * x**2 + 1
                elif x < 2:
                    result[row, column] = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return result / result.sum(1, keepdims=True)

    rows, columns = weights(pixels.shape[0]), weights(pixels.shape[1])
    return np.einsum("sy,tx,yxc->stc", rows, columns, pixels.astype(float))


@pytest.mark.parametrize("box", [(64, 64), (60, 63), (25, 64), (56, 56)])
def test_a_part_is_resized_as_pil_does(box):
    picture = np.asarray(photograph(64, 64))
    height, width = box
    canvas = np.full((2, 64, 64, 3), 77, np.uint8)  # what lies outside has no part
    canvas[0, :height, :width] = picture[:height, :width]
    boxes = np.array([box, (10, 10)], np.int32)
    found = np.asarray(jax.jit(resampling.resize, static_argnums=2)(canvas, boxes, 56))
    part = Image.fromarray(picture[:height, :width])
    pil = np.asarray(part.resize((56, 56), Image.Resampling.BICUBIC))
    assert decibels(found[0], pil) > 54
    exact = np.clip(reference(picture[:height, :width], 56), 0, 255)
    assert np.abs(found[0] - exact).max() < 0.51
    assert (found[1] == 77).all()
