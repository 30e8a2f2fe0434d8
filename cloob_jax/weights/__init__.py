"""Public weights in other formats, read and written without their frameworks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cloob_jax.weights import cloob_training, huggingface, names, open_clip, openai
from cloob_jax.weights.names import Naming
from cloob_jax.weights.published import Ours, Published

__all__ = ["READERS", "WRITERS", "Ours", "Published"]


class Writer(NamedTuple):
    """How a format is written: the function, and where our arrays lie in it."""

    write: Callable[[Ours, Path], None]
    naming: Naming


READERS: dict[str, Callable[[Path], Published]] = {
    "openai": openai.read_openai,
    "cloob": openai.read_cloob,
    "open_clip": open_clip.read,
    "huggingface": huggingface.read,
    "cloob_training": cloob_training.read,
}
WRITERS: dict[str, Writer] = {
    "open_clip": Writer(open_clip.write, names.openai),
    "huggingface": Writer(huggingface.write, huggingface.naming),
}
