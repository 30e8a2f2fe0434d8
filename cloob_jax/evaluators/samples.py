"""A picture of what the model says: test images with their likeliest captions."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cloob_jax.data import class_words, pictures
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.zero_shot import ZeroShot, classifier

_TILE, _TEXT, _GAP, _ROW = 112, 250, 14, 26
_INV_TAU = 30.0
_RIGHT, _WRONG, _OTHER = "#1a7f37", "#c4320a", "#848d97"
_INK, _FAINT = "#1f2328", "#d8dee4"


def draw(
    test: ZeroShot,
    embedder: Embedder,
    columns: int = 2,
    rows: int = 5,
) -> Image.Image:
    """Pictures spread over a data set, each with its three likeliest captions.

    The bars are the softmax over all classes of 30 times the similarity (CLOOB's
    published 1/tau); the true class's caption is green, a wrong first one red.
    """
    dataset = test.dataset
    count = min(columns * rows, len(dataset))
    records = np.linspace(0, len(dataset) - 1, count).astype(int).tolist()
    images, labels = pictures.load(dataset, records, embedder.image_size)
    _, embeds = embedder.embed_images(images)
    templates = next(iter(dataset.prompt_sets.values()))
    scores = embeds @ classifier(dataset.class_names, templates, embedder)
    exponentials = np.exp(_INV_TAU * (scores - scores.max(axis=1, keepdims=True)))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)

    cell_width, cell_height = _TILE + _TEXT + 2 * _GAP, _TILE + 2 * _GAP
    head = 40
    size = (columns * cell_width + _GAP, rows * cell_height + head)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    title = f"{dataset.name}: test images and their likeliest captions"
    pen.text((_GAP, _GAP), title, _INK, _font(16))
    for number, (image, label, share) in enumerate(
        zip(images, labels, shares, strict=True)
    ):
        row, column = divmod(number, columns)
        left, top = column * cell_width + _GAP, row * cell_height + head + _GAP
        tile = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (left, top))
        for line, guess in enumerate(np.argsort(-share)[:3].tolist()):
            colour = _RIGHT if guess == label else _OTHER if line else _WRONG
            place = (left + _TILE + _GAP, top + 8 + line * (_ROW + 8))
            caption = class_words.fill(templates[0], dataset.class_names[guess])
            _bar(pen, place, caption, float(share[guess]), colour)
    return sheet


def _bar(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    caption: str,
    share: float,
    colour: str,
) -> None:
    left, top = place
    font, room = _font(13), _TEXT - 40
    while pen.textlength(caption, font) > room and len(caption) > 4:
        caption = caption[:-4].rstrip() + "..."
    pen.text((left, top), caption, colour, font)
    percent = f"{share:.0%}"
    pen.text((left + _TEXT - 34, top), percent, colour, font)
    bottom = top + _ROW - 6
    pen.rectangle((left, bottom, left + _TEXT - 6, bottom + 3), _FAINT)
    pen.rectangle((left, bottom, left + share * (_TEXT - 6), bottom + 3), colour)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # ships inside Pillow
